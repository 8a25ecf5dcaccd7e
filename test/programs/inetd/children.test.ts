/** What a child of socketbox-inetd is given, looked at from inside. */
import { describe, expect } from "bun:test";
import { existsSync, readlinkSync, writeFileSync } from "node:fs";
import { makeJail } from "../../kit/jail.ts";
import { pythonOutput, said } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { Running, ready, scratch, threadStatus } from "../../kit/running.ts";
import { askThrough, INETD, inetd, sh, statusField, testPython, testRoot } from "./inetd.ts";

describe("a child", () => {
  // Of a shell that waits for a child, the mask would be the shell's own doing.
  const FACTS = "exec cat /proc/self/status /proc/self/limits";

  testPython("has descriptors 0, 1 and 2 and no other: the receiving socket stays ours", async () => {
    using folder = scratch();
    await using server = await inetd(folder.file("s"), "ls -l /proc/$$/fd", [], { stdio: ["pipe", "pipe"] });
    const listing = await askThrough(folder.file("s"));
    const open = [...listing.matchAll(/ (\d+) -> (\S+)/g)].map(([, fd, to]) => [fd, to]);
    const [, connection] = open[0]!;
    expect(connection).toStartWith("socket:");
    expect(open).toEqual([
      ["0", connection],
      ["1", connection],
      ["2", readlinkSync(`/proc/${server.pid}/fd/2`)],
    ]);
  });

  testPython(
    "starts with default dispositions and nothing blocked, as inetd itself was started",
    async () => {
      using folder = scratch();
      const path = folder.file("s");
      await using _server = await ready("socketbox-inetd", [path, ...sh(FACTS)]);
      const facts = await askThrough(path);
      expect(statusField(facts, "SigBlk")).toBe("0".repeat(16));
      expect(statusField(facts, "SigIgn")).toBe("0".repeat(16));
      expect(statusField(facts, "SigPnd")).toBe("0".repeat(16));
    },
  );

  testPython(
    "keeps what was ignored for inetd on purpose, and the limit of descriptors that it was given",
    async () => {
      using folder = scratch();
      const path = folder.file("s");
      const start = `trap '' HUP USR1; ulimit -Sn 777; exec '${INETD}' ${path} /bin/sh -c '${FACTS}'`;
      await using server = new Running(sh(start));
      await server.until(/: ready: /);
      const facts = await askThrough(path);
      // SIGHUP is 1, SIGUSR1 is 10.
      expect(statusField(facts, "SigIgn")).toBe("0000000000000201");
      expect(/^Max open files\s+(\d+)/m.exec(facts)?.[1]).toBe("777");
    },
  );

  testPython("leads a session of its own, without a terminal", async () => {
    using folder = scratch();
    await using server = await inetd(folder.file("s"), "echo $$ $(cut -d' ' -f 5-7 /proc/$$/stat)");
    const [pid, group, session, terminal] = (await askThrough(folder.file("s"))).trim().split(" ");
    expect([group, session, terminal]).toEqual([pid, pid, "0"]);
    expect(Number(pid)).not.toBe(server.pid);
  });

  const NAMES =
    "PROTO TCPLOCALIP TCPLOCALPORT TCPREMOTEIP TCPREMOTEPORT REMOTE_ADDR REMOTE_PORT SERVER_ADDR SERVER_PORT".split(
      " ",
    );
  const printNames = NAMES.map((name) => `echo ${name}=\${${name}-unset}`).join(";");
  const parsed = (text: string) =>
    Object.fromEntries(
      text
        .trim()
        .split("\n")
        .map((line) => line.split("=")),
    );

  for (const [address, shown] of [
    ["127.0.0.1", "127.0.0.1"],
    ["::1", "::1"],
  ] as const) {
    testPython(`finds both ends of a connection to ${address} in its environment`, async () => {
      using folder = scratch();
      await using _server = await inetd(folder.file("s"), printNames);
      const script = `
client, accepted = connection(sys.argv[2])
say(client=client.getsockname()[1], server=client.getpeername()[1])
hand(sys.argv[1], accepted)
accepted.close()
print(ask(client), end="")`;
      const out = await pythonOutput(script, folder.file("s"), address);
      const [ends] = said<{ client: number; server: number }>(out);
      expect(parsed(out.slice(out.indexOf("\n") + 1))).toEqual({
        PROTO: "TCP",
        TCPLOCALIP: shown,
        TCPLOCALPORT: String(ends!.server),
        TCPREMOTEIP: shown,
        TCPREMOTEPORT: String(ends!.client),
        REMOTE_ADDR: shown,
        REMOTE_PORT: String(ends!.client),
        SERVER_ADDR: shown,
        SERVER_PORT: String(ends!.server),
      });
    });
  }

  testPython("of a Unix stream has no addresses, not even those of inetd's own environment", async () => {
    using folder = scratch();
    const env = { TCPREMOTEIP: "192.0.2.1", REMOTE_ADDR: "192.0.2.1" };
    await using _server = await inetd(folder.file("s"), printNames, [], { env });
    const script = "a, b = socket.socketpair(); hand(sys.argv[1], b); b.close(); print(ask(a), end='')";
    const unset = Object.fromEntries(NAMES.map((name) => [name, "unset"]));
    expect(parsed(await pythonOutput(script, folder.file("s")))).toEqual({ ...unset, PROTO: "UNIX" });
  });

  testPython("gets inetd's environment, without what our programs pass among themselves", async () => {
    using folder = scratch();
    const env = { KEPT: "a=b c", EMPTY: "" };
    await using _server = await inetd(folder.file("s"), "env", [], { env });
    const lines = (await askThrough(folder.file("s"))).split("\n");
    expect(lines).toContain("KEPT=a=b c");
    expect(lines).toContain("EMPTY=");
    expect(lines.filter((line) => line.startsWith("SOCKETBOX_"))).toEqual([]);
  });

  testPython("gets variables that are not UTF-8 as they came", async () => {
    using folder = scratch();
    const path = folder.file("s");
    const start = `ODD=$(printf 'a\\377\\303=\\342\\202\\254\\355\\260\\200') EVEN=é exec '${INETD}' ${path} /bin/sh -c 'env | od -An -v -tx1'`;
    await using server = new Running(["sh", "-c", start]);
    await server.until(/: ready: /);
    const bytes = Buffer.from((await askThrough(path)).replace(/\s/g, ""), "hex").toString("latin1");
    expect(bytes).toMatch(/^ODD=a\xff\xc3=\xe2\x82\xac\xed\xb0\x80$/m);
    expect(bytes).toMatch(/^EVEN=\xc3\xa9$/m);
  });

  testPython("has its connection on 0 and 1 when inetd itself was started with both closed", async () => {
    using folder = scratch();
    const path = folder.file("s");
    const start = `exec '${INETD}' ${path} /bin/sh -c 'read -r x; echo "heard $x"; ls -l /proc/$$/fd' <&- >&-`;
    await using server = new Running(sh(start));
    await server.until(/: ready: /);
    const script = "print([ask_through(sys.argv[1], f'{n}\\n') for n in range(3)])";
    const out = await pythonOutput(script, path);
    for (const n of [0, 1, 2]) expect(out).toContain(`heard ${n}\\n`);
    expect(out.match(/ [01] -> socket:/g)).toHaveLength(6);
    expect(out).not.toMatch(/ [3-9] -> /);
  });

  testPython(
    "has its connection on 0 and 1 when all of 0 to 2 were closed and the socket took the lowest number",
    async () => {
      using folder = scratch();
      const path = folder.file("s");
      await using server = new Running(
        sh(`exec '${INETD}' ${path} /bin/sh -c 'read -r x; echo "heard $x"' <&- >&- 2>&-`),
      );
      while (!existsSync(path)) await Bun.sleep(5);
      expect(await askThrough(path, "all closed\n")).toBe("heard all closed\n");
      expect(await server.stop()).toBe(0);
    },
  );

  testPython(
    "can gain privileges by an exec unless --no-new-privs forbids it; no filter is put on it either way",
    async () => {
      using folder = scratch();
      await using _plain = await inetd(folder.file("a"), FACTS);
      await using _confined = await inetd(folder.file("b"), FACTS, ["--no-new-privs"]);
      const plain = await askThrough(folder.file("a"));
      const confined = await askThrough(folder.file("b"));
      expect([statusField(plain, "NoNewPrivs"), statusField(plain, "Seccomp")]).toEqual(["0", "0"]);
      expect([statusField(confined, "NoNewPrivs"), statusField(confined, "Seccomp")]).toEqual(["1", "0"]);
    },
  );
});

describe("identity", () => {
  const STATUS = "cat /proc/$$/status";
  const four = (id: number) => [id, id, id, id].join("\t");

  testRoot("-u NAME gives children that user, its group, and no other group", async () => {
    using folder = scratch();
    await using server = await inetd(folder.file("s"), STATUS, ["-u", "nobody"]);
    const status = await askThrough(folder.file("s"));
    expect(["Uid", "Gid", "Groups"].map((field) => statusField(status, field))).toEqual([
      four(65534),
      four(65534),
      "",
    ]);
    expect(statusField(status, "CapEff")).toBe("0".repeat(16));
    expect(new Set(threadStatus(server.pid, "Uid"))).toEqual(new Set([four(65534)]));
  });

  testRoot("-u NUMBER leaves neither group 0 nor any supplementary group", async () => {
    using folder = scratch();
    await using _server = await inetd(folder.file("s"), STATUS, ["-u", "54321"]);
    const status = await askThrough(folder.file("s"));
    expect(statusField(status, "Uid")).toBe(four(54321));
    expect(statusField(status, "Gid")).not.toContain("\t0");
    expect(statusField(status, "Gid")).toBe(four(65534));
    expect(statusField(status, "Groups")).toBe("");
  });

  testRoot("-g and -G choose the group, and the supplementary groups", async () => {
    using folder = scratch();
    await using _server = await inetd(folder.file("s"), STATUS, [
      "-u",
      "nobody",
      "-g",
      "tty",
      "-G",
      "daemon,12345",
    ]);
    const status = await askThrough(folder.file("s"));
    expect(["Gid", "Groups"].map((field) => statusField(status, field))).toEqual([four(5), "1 12345"]);
  });

  testWith(
    program("python3"),
    root,
    program("setpriv"),
  )("-k leaves supplementary groups alone", async () => {
    using folder = scratch();
    const start = (name: string, ...words: string[]) =>
      new Running(["setpriv", "--groups=7,8", INETD, ...words, folder.file(name), ...sh(STATUS)]);
    await using kept = start("kept", "-k", "-u", "nobody");
    await using dropped = start("dropped", "-u", "nobody");
    await Promise.all([kept.until(/: ready: /), dropped.until(/: ready: /)]);
    expect(statusField(await askThrough(folder.file("kept")), "Groups")).toBe("7 8");
    expect(statusField(await askThrough(folder.file("dropped")), "Groups")).toBe("");
  });

  testRoot(
    "-x puts children, and the search for the program, under another root; the socket stays where it was meant",
    async () => {
      using folder = scratch();
      const jail = folder.file("jail");
      await makeJail(jail, "/bin/cat");
      writeFileSync(`${jail}/where`, "inside\n");
      await using server = await ready("socketbox-inetd", [
        "-x",
        jail,
        folder.file("s"),
        "/bin/cat",
        "/where",
      ]);
      expect(await askThrough(folder.file("s"))).toBe("inside\n");
      expect(readlinkSync(`/proc/${server.pid}/root`)).toBe(jail);
      expect(readlinkSync(`/proc/${server.pid}/cwd`)).toBe(jail);
    },
  );
});
