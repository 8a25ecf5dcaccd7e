import { afterAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { EXIT } from "../../src/programs/host.ts";
import { call } from "../kit/called.ts";
import { scratch } from "../kit/running.ts";

const folder = scratch();
afterAll(() => folder[Symbol.dispose]());

const toml = folder.file("a.toml");
writeFileSync(
  toml,
  `[[listen]]
name = "out"
[[listen]]
name = "in"
port = 81
[[route]]
remote = "2001:db8:bad::/48"
to = "deny"
[[route]]
port = 22
to = "table:ssh"
[[route]]
listener = "in"
to = "target:inside"
[[route]]
port = "8000-8010"
to = "unix:/run/{port}/{local}"
[[table.ssh.route]]
local = "192.0.2.1"
to = "unix:/run/ssh"
[target.inside]
to = "unix:@inside"
[target.pool]
to = ["unix:/run/{port}/a", "unix:/run/b"]
balance = "least-waiting"
fallback = true
spread = true
[target.hashed]
to = ["unix:/run/a", "unix:/run/b"]
balance = "source-hash"
[[route]]
port = 90
to = "target:pool"
[[route]]
port = 91
to = "target:hashed"
`,
);
const conf = folder.file("a.conf");
writeFileSync(
  conf,
  "rule-set:0\njump-map:0\nmap-set:0\nmatch-lport\nport:22 jump-unix:/run/#//P_\ndefault fail\n",
);

async function explain(file: string, ...words: string[]) {
  const { code, out, log } = await call("socketbox", ["explain", "-f", file, ...words]);
  return { code, out: out.replaceAll(file, "FILE"), log: log.join("\n").replaceAll(file, "FILE") };
}

const CLIENT = "[2001:db8::9]:40000";

describe("socketbox explain", () => {
  test("names all receivers of a target, and how one is chosen; by the client, the first choice first", async () => {
    const { out: pool } = await explain(toml, "[2001:db8::1]:90", CLIENT);
    expect(pool).toEndWith(
      "\nto pool (unix:/run/90/a, unix:/run/b; least-waiting, fallback, spread over siblings)\n",
    );
    const ends = new Set<string>();
    for (let host = 1; host < 20; host++) {
      const { out } = await explain(toml, "[2001:db8::1]:91", `[2001:db8:0:${host}::9]:4000`);
      ends.add(out.split("\n").at(-2)!);
    }
    expect([...ends].sort()).toEqual([
      "to hashed (unix:/run/a, then unix:/run/b; source-hash)",
      "to hashed (unix:/run/b, then unix:/run/a; source-hash)",
    ]);
  });

  test("names the route that decides, and the target", async () => {
    expect(await explain(toml, "[2001:db8::1]:80", CLIENT, "in")).toEqual({
      code: EXIT.ok,
      out: `[2001:db8::9]:40000 -> [2001:db8::1]:80, by listener in
  table main: the route at FILE:12:1
to inside (unix:@inside)
`,
      log: "",
    });
  });

  test("follows jumps, and takes IPv4 plainly", async () => {
    expect(await explain(toml, "192.0.2.1:22", "198.51.100.7:1234")).toEqual({
      code: EXIT.ok,
      out: `[::ffff:198.51.100.7]:1234 -> [::ffff:192.0.2.1]:22, by listener out
  table main: the route at FILE:9:1
  table ssh: the route at FILE:18:1
to unix:/run/ssh
`,
      log: "",
    });
  });

  test("fills in a template", async () => {
    const { out } = await explain(toml, "[2001:db8::1]:8005", CLIENT);
    expect(out).toEndWith("to unix:/run/{port}/{local} (unix:/run/8005/2001:db8::1)\n");
  });

  test("says deny and no route apart, and exits 1 for both", async () => {
    const denied = await explain(toml, "[2001:db8::1]:80", "[2001:db8:bad::1]:1");
    expect(denied).toMatchObject({ code: EXIT.refused, log: "" });
    expect(denied.out).toEndWith("  table main: the route at FILE:6:1\ndenied\n");
    const nowhere = await explain(toml, "[2001:db8::1]:80", CLIENT);
    expect(nowhere).toMatchObject({ code: EXIT.refused, log: "" });
    expect(nowhere.out).toEndWith("  table main: no route fits\nno route: the connection is closed\n");
    const jumped = await explain(toml, "[2001:db8::1]:22", CLIENT);
    expect(jumped.out).toEndWith("  table ssh: no route fits\nno route: the connection is closed\n");
  });

  test("explains the line format by its own lines", async () => {
    expect(
      (await explain(conf, "[::1]:22", CLIENT)).out,
    ).toBe(`[2001:db8::9]:40000 -> [::1]:22, by listener main
  table rule-set 0: the route at FILE:2:1
  table map-set 0: the route at FILE:5:1
to unix:/run/#//P_
`);
    expect((await explain(conf, "[::1]:23", CLIENT)).out).toEndWith("the route at FILE:6:1\ndenied\n");
  });

  test("refuses a wrong file with all that is wrong", async () => {
    const bad = folder.file("bad.conf");
    writeFileSync(bad, "rule-set:0\nport:0 fail\nx\n");
    const { code, out, log } = await explain(bad, "[::1]:22", CLIENT);
    expect({ code, out }).toEqual({ code: EXIT.refused, out: "" });
    expect(log.split("\n")).toHaveLength(3);
    expect(log).toContain("FILE:2:6: error: port 0 is out of range");
  });

  test.each([
    [[], "explain needs LOCAL and REMOTE, each as [ADDRESS]:PORT"],
    [["[::1]:22"], "explain needs LOCAL and REMOTE, each as [ADDRESS]:PORT"],
    [["::1:22", CLIENT], 'LOCAL: "::1:22" is not an address and port; expected [ADDRESS]:PORT'],
    [["[::1]", CLIENT], 'LOCAL: "[::1]" is not an address and port; expected [ADDRESS]:PORT'],
    [["[::1]:22", "192.0.2:1"], 'REMOTE: "192.0.2:1" is not an address and port; expected [ADDRESS]:PORT'],
    [["[::1]:65536", CLIENT], 'LOCAL: "65536" is out of range; expected 0 to 65535'],
    [["[::1]:22", CLIENT, "in", "more"], '"more" is one word too many'],
    [["[::1]:22", CLIENT, "none"], 'there is no listener "none" in FILE'],
  ])("refuses %p", async (words, message) => {
    expect(await explain(toml, ...words)).toEqual({
      code: EXIT.usage,
      out: "",
      log: `${message}; see socketbox --help`,
    });
  });
});
