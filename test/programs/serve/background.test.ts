/** -d: the command returns when the server in the background listens, or says why it does not. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { EXIT } from "../../../src/programs/host.ts";
import { pythonOutput, said } from "../../kit/python.ts";
import { ask, freePort, run, scratch } from "../../kit/running.ts";
import { receiver, SOCKETBOX, testPython } from "./server.ts";

/** Processes whose current folder is this one: ours, for nobody else knows it. */
function processesIn(folder: string): number[] {
  return readdirSync("/proc").flatMap((name) => {
    try {
      return /^\d+$/.test(name) && readlinkSync(`/proc/${name}/cwd`) === folder ? [Number(name)] : [];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

/** Ends the server that was left in the background of this folder. */
async function endIn(folder: string): Promise<void> {
  for (const pid of processesIn(folder)) process.kill(pid, "SIGTERM");
  while (processesIn(folder).length > 0) await Bun.sleep(5);
}

describe("-d", () => {
  testPython(
    "returns 0 when the server listens; relative paths mean what they meant where it was started",
    async () => {
      using folder = scratch();
      const port = await freePort();
      writeFileSync(folder.file("a.conf"), "rule-set:0\nip:127.0.0.2 jump-unix:two\ndefault jump-unix:one\n");
      await using _one = await receiver(folder.file("one"), "one");
      await using _two = await receiver(folder.file("two"), "two");
      const words = ["-d", "-f", "a.conf", "-p", String(port)];
      const { code, out } = await run(["/bin/sh", "-c", `exec "$@" 2>log`, "sh", SOCKETBOX, ...words], {
        cwd: folder.path,
      });
      try {
        expect({ code, out }).toEqual({ code: 0, out: "" });
        // No waiting: whoever is told that it runs may rely on it.
        expect(await ask(port, "127.0.0.1")).toBe("one");
        expect(await ask(port, "127.0.0.2")).toBe("two");
        expect(readFileSync(folder.file("log"), "utf8")).toContain("ready: ");
      } finally {
        await endIn(folder.path);
      }
      expect(readFileSync(folder.file("log"), "utf8")).toContain("stopped: 2 accepted, 2 delivered");
    },
  );

  testPython("lets go of the terminal that it was started at, with all three of its streams", async () => {
    using folder = scratch();
    const script = `
import subprocess
ours, terminal = os.openpty()
command = [sys.argv[1], "-d", "-p", "0", "-S", "@nobody"]
code = subprocess.run(command, cwd=sys.argv[2], stdin=terminal, stdout=terminal, stderr=terminal).returncode
say(code=code, ready=b"ready: " in os.read(ours, 4096))`;
    try {
      expect(said(await pythonOutput(script, SOCKETBOX, folder.path))).toEqual([
        { code: EXIT.ok, ready: true },
      ]);
      const [server] = processesIn(folder.path);
      for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${server}/fd/${fd}`)).toBe("/dev/null");
    } finally {
      await endIn(folder.path);
    }
  });

  testPython(
    "keeps standard input and output where they are the sockets that it is to work with",
    async () => {
      using folder = scratch();
      const script = `
import subprocess
listener = socket.create_server(("127.0.0.1", 0))
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
os.chdir(sys.argv[2])
code = subprocess.run([sys.argv[1], "-d", "-s0", "-i1"], stdin=listener, stdout=theirs, stderr=open("log", "w")).returncode
client = socket.create_connection(listener.getsockname())
listener.close(); theirs.close()
payload, descriptors = take(ours)
socket.socket(fileno=descriptors[0]).sendall(b"through both")
say(code=code, answer=client.recv(100).decode())`;
      try {
        expect(said(await pythonOutput(script, SOCKETBOX, folder.path))).toEqual([
          { code: EXIT.ok, answer: "through both" },
        ]);
      } finally {
        await endIn(folder.path);
      }
    },
  );

  testPython(
    "lets go of the session, of standard input and output, and of nothing else that was inherited",
    async () => {
      using folder = scratch();
      const port = await freePort();
      await using _target = await receiver(folder.file("r"), "here");
      const script = `"$@" 2>log 5<a.conf; echo "returned $?"`;
      writeFileSync(folder.file("a.conf"), "");
      const words = ["-dS", "r", `-p${port}`];
      const { out } = await run(["/bin/sh", "-c", script, "sh", SOCKETBOX, ...words], { cwd: folder.path });
      try {
        expect(out).toBe("returned 0\n");
        const [pid, ...others] = processesIn(folder.path);
        expect(others).toEqual([]);
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        const [, , group, session, terminal] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        expect([Number(group), Number(session), terminal]).toEqual([pid!, pid!, "0"]);
        expect([0, 1].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))).toEqual(["/dev/null", "/dev/null"]);
        expect(readlinkSync(`/proc/${pid}/fd/2`)).toBe(folder.file("log"));
        expect(readlinkSync(`/proc/${pid}/fd/5`)).toBe(folder.file("a.conf"));
        expect(await ask(port, "::1")).toBe("here");
      } finally {
        await endIn(folder.path);
      }
    },
  );

  test("returns the server's own exit code, with its message, when it cannot listen", async () => {
    using folder = scratch();
    const port = await freePort();
    writeFileSync(folder.file("bad.conf"), "rule-set:0\nport:0 fail\n");
    writeFileSync(folder.file("good.conf"), "rule-set:0\nfail\n");
    const attempt = (...words: string[]) => run([SOCKETBOX, "-d", ...words], { cwd: folder.path });
    const wrong = await attempt("-f", "bad.conf", "-p", String(port));
    expect(wrong.code).toBe(EXIT.refused);
    expect(wrong.out).toContain("bad.conf:2:6: error: port 0 is out of range");
    const missing = await attempt("-f", "none.conf", "-p", String(port));
    expect(missing.code).toBe(EXIT.refused);
    expect(missing.out).toContain("none.conf");
    const usage = await attempt("-f", "good.conf", "-p", "65536");
    expect(usage.code).toBe(EXIT.usage);
    const busy = Bun.listen({ hostname: "::", port, socket: { data() {} } });
    const taken = await attempt("-f", "good.conf", "-p", String(port));
    busy.stop(true);
    expect(taken.code).toBe(EXIT.system);
    expect(taken.out).toContain("EADDRINUSE");
    expect(processesIn(folder.path)).toEqual([]);
  });
});
