import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { call } from "../kit/called.ts";
import { scratch } from "../kit/running.ts";

const folder = scratch();
afterAll(() => folder[Symbol.dispose]());

let count = 0;

/** The verdict on a file of this text, with FILE for its name. */
async function check(extension: string, text: string | Uint8Array) {
  const file = folder.file(`${count++}.${extension}`);
  writeFileSync(file, text);
  const { code, out, log } = await call("socketbox", ["check", "-f", file]);
  return { code, out: out.replaceAll(file, "FILE"), log: log.join("\n").replaceAll(file, "FILE") };
}

describe("socketbox check", () => {
  test("counts what a good file holds", async () => {
    expect(
      await check("conf", "rule-set:0\nip:::1 jump-rule:1\nrule-set:1\nport:1 jump-unix:/a\njump-unix:/b"),
    ).toEqual({
      code: 0,
      out: "FILE: good: 1 listener 3 routes in 2 tables to 2 targets; 0 warnings\n",
      log: "",
    });
    const toml = '[[listen]]\nport = 1\n[[listen]]\nport = 2\n[[route]]\nto = "deny"\n';
    expect((await check("toml", toml)).out).toBe(
      "FILE: good: 2 listeners 1 route in 1 table to 0 targets; 0 warnings\n",
    );
  });

  test("says warnings, and takes the file", async () => {
    expect(await check("toml", '[[route]]\nlocal = "::1/64"\nto = "deny"\n')).toEqual({
      code: 0,
      out: "FILE:2:9: warning: local ::1/64 has bits that its mask does not compare; expected ::/64\nFILE: good: 1 listener 1 route in 1 table to 0 targets; 1 warning\n",
      log: "",
    });
  });

  test("says every error, the verdict last, and exits 1", async () => {
    expect(await check("conf", "rule-set:0\nport:0 fail\njump:x\n")).toEqual({
      code: 1,
      out: [
        "FILE:2:6: error: port 0 is out of range; expected 1 to 65535",
        'FILE:3:1: error: "jump:x" is not a word of this format; expected jump-unix:PATH, jump-fd:N, jump-rule:N, jump-map:N',
        "FILE: refused, 2 errors\n",
      ].join("\n"),
      log: "",
    });
  });

  test("counts errors alone in the verdict, warnings are said beside them", async () => {
    const { code, out } = await check("conf", "rule-set:0\nip:::1/64 fail\nport:0 fail\n");
    expect(code).toBe(1);
    expect(out).toContain("FILE:2:4: warning: ");
    expect(out).toEndWith("FILE: refused, 1 error\n");
  });

  test("says why a file cannot be read", async () => {
    const missing = await call("socketbox", ["check", "-f", folder.file("missing.toml")]);
    expect(missing.code).toBe(1);
    expect(missing.log[0]).toEndWith(
      "missing.toml: error: it cannot be read: ENOENT (no such file, or folder)",
    );
    mkdirSync(folder.file("folder.toml"));
    const directory = await call("socketbox", ["check", "-f", folder.file("folder.toml")]);
    expect(directory.code).toBe(1);
    expect(directory.log[0]).toEndWith("folder.toml: error: it cannot be read: EISDIR (a folder)");
  });

  test("refuses what is not UTF-8 text, and says where", async () => {
    for (const extension of ["conf", "toml"]) {
      const bytes = Buffer.concat([
        Buffer.from("# \ufffdü\nrule-set:0\njump-unix:/ü\ufffd"),
        Buffer.from([0xff]),
        Buffer.from("\n\xff", "latin1"),
      ]);
      expect(await check(extension, bytes)).toEqual({
        code: 1,
        out: "FILE:3:14: error: the byte 0xff is not UTF-8; expected UTF-8 text\nFILE: refused, 1 error\n",
        log: "",
      });
    }
  });

  test("finds a relative -f where it was called", async () => {
    const file = folder.file("here.conf");
    writeFileSync(file, "rule-set:0\nfail\n");
    const before = process.cwd();
    process.chdir(folder.path);
    try {
      expect((await call("socketbox", ["check", "-f", "here.conf"])).code).toBe(0);
    } finally {
      process.chdir(before);
    }
  });

  test("reads and changes nothing else: it needs no right to listen, and opens nothing", async () => {
    expect(
      (
        await check(
          "toml",
          '[server]\nuser = "no-such-user"\n[[listen]]\nport = 1\n[[route]]\nto = "fd:999"\n',
        )
      ).code,
    ).toBe(0);
  });
});
