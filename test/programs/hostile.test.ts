/**
 * Our programs at work in somebody else's folder run nothing of it, and pass no environment on from it.
 * (test/package.test.ts starts every program there, in every form that it is shipped in.)
 */
import { describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { BAIT, hostileFolder } from "../kit/hostile.ts";
import { pythonOutput } from "../kit/python.ts";
import { program, testWith } from "../kit/require.ts";
import { ask, bin, freePort, ROOT, Running, run } from "../kit/running.ts";

const testPython = testWith(program("python3"));

/** Not that of whoever runs the tests: only the folder's own would be seen. */
const env = { SKBOX_STRICT_STREAM_MODE: undefined };

test("the folder is a trap indeed: Bun itself steps into it", async () => {
  using folder = hostileFolder();
  writeFileSync(folder.file("innocent.ts"), 'console.log("untouched");');
  const { code, out } = await run([join(ROOT, ".toolchain/bin/bun"), "innocent.ts"], { cwd: folder.path });
  expect([code, out, folder.sprung]).toEqual([99, "", true]);
});

const PROGRAMS = Object.keys(packageFile.bin);

describe("at work in such a folder", () => {
  testPython(
    "socketbox and socketbox-inetd serve, and neither they nor a child have its environment",
    async () => {
      using folder = hostileFolder();
      const options = { cwd: folder.path, env };
      await using inetd = new Running([bin("socketbox-inetd"), "r", "/usr/bin/env"], options);
      await inetd.until(/: ready: /);
      const port = await freePort();
      writeFileSync(
        folder.file("a.toml"),
        `[server]\nworkers = 2\n[[listen]]\nport = ${port}\n[[route]]\nto = "unix:${folder.file("r")}"\n`,
      );
      await using server = new Running([bin("socketbox"), "-f", "a.toml"], options);
      await server.until(/: ready: /);
      const environment = await ask(port, "127.0.0.1");
      expect(environment).toContain("TCPREMOTEIP=127.0.0.1\n");
      expect(environment).not.toContain(BAIT);
      expect(environment).not.toContain("BUN_OPTIONS");
      expect([await server.stop(), await inetd.stop()]).toEqual([0, 0]);
      expect(folder.sprung).toBe(false);
    },
  );

  test("socketbox -e becomes its program without the folder's environment, and -d starts itself again untouched", async () => {
    using folder = hostileFolder();
    const options = { cwd: folder.path, env };
    const { code, out } = await run(
      [bin("socketbox"), "-p", String(await freePort()), "-e", "/usr/bin/env"],
      options,
    );
    expect(code).toBe(0);
    expect(out).toContain("SKBOX_LISTEN_FD=");
    expect(out).not.toContain(BAIT);
    const background = ["-d", "-p", String(await freePort()), "-e", "/usr/bin/env"];
    expect((await run([bin("socketbox"), ...background], options)).out).not.toContain(BAIT);
    expect(folder.sprung).toBe(false);
  });

  test("no program looks there for its own code translated, wherever a home or a cache is said to be", async () => {
    using folder = hostileFolder();
    const before = readdirSync(folder.path).sort();
    for (const homes of [
      { HOME: "", XDG_CACHE_HOME: undefined },
      { HOME: ".", XDG_CACHE_HOME: "" },
    ]) {
      const options = { cwd: folder.path, env: { ...env, ...homes } };
      for (const name of PROGRAMS) expect((await run([bin(name), "--help"], options)).code).toBe(0);
      const command = ["-p", String(await freePort()), "-e", "/usr/bin/env"];
      const { out } = await run([bin("socketbox"), ...command], options);
      expect(out).toContain("SKBOX_LISTEN_FD=");
      expect(out).not.toMatch(/^(BUN|SOCKETBOX)_/m);
    }
    // Bun keeps what it has translated, and so shows where it looks.
    expect(readdirSync(folder.path).sort()).toEqual(before);
  });

  testPython("send-receive-fd and socket-query do their work", async () => {
    using folder = hostileFolder();
    const script = `
import subprocess
os.chdir(sys.argv[1])
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
client, accepted = connection()
def call(*words, fds, **more):
    return subprocess.run(words, pass_fds=[f.fileno() for f in fds], capture_output=True, text=True, **more).stdout
call(sys.argv[2], "-s", str(accepted.fileno()), str(ours.fileno()), fds=[accepted, ours])
print(call(sys.argv[2], "-r", str(theirs.fileno()), "/usr/bin/env", fds=[theirs]))
print(call(sys.argv[3], stdin=accepted, fds=[]))`;
    const out = await pythonOutput(script, folder.path, bin("send-receive-fd"), bin("socket-query"));
    expect(out).toContain("SKBOX_RECEIVED_FD=");
    expect(out).toContain("[0000:0000:0000:0000:0000:ffff:7f00:0001]:");
    expect(out).not.toContain(BAIT);
    expect(folder.sprung).toBe(false);
  });
});
