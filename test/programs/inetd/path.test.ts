/** The socket that socketbox-inetd binds: whose it is, from when on, and how long. */
import { describe, expect } from "bun:test";
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { EXIT } from "../../../src/programs/host.ts";
import { python, pythonOutput } from "../../kit/python.ts";
import { Running, run, scratch } from "../../kit/running.ts";
import { askThrough, INETD, inetd, sh, testPython, testRoot } from "./inetd.ts";

describe("the path", () => {
  testPython("has mode 0660 from the first instant, whatever the umask", async () => {
    using folder = scratch();
    const watch = `
import time
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        modes = {oct(os.stat(sys.argv[1]).st_mode & 0o7777) for _ in range(2000)}
        break
    except FileNotFoundError:
        pass
print(modes)`;
    for (const umask of ["000", "077", "777"]) {
      const path = folder.file(umask);
      await using watching = python(watch, [path]);
      await using server = new Running(sh(`umask ${umask}; exec '${INETD}' ${path} /bin/true`));
      await server.until(/: ready: /);
      expect(await watching.ended()).toBe(0);
      expect(watching.log).toBe("{'0o660'}\n");
    }
  });

  testPython("is taken over from a receiver that has died", async () => {
    using folder = scratch();
    const path = folder.file("s");
    await pythonOutput("receiver(sys.argv[1]).close()", path);
    const stale = statSync(path).ino;
    await using _server = await inetd(path, "echo new");
    expect(statSync(path).ino).not.toBe(stale);
    expect(await askThrough(path)).toBe("new\n");
  });

  testPython("is never taken from a living one, nor from another kind of file", async () => {
    using folder = scratch();
    const path = folder.file("s");
    await using first = await inetd(path, "echo first");
    const second = await run([INETD, path, ...sh("echo second")]);
    expect(second.code).toBe(EXIT.system);
    expect(second.out).toContain(`bind ${path}: EADDRINUSE (address already in use)`);
    expect(await askThrough(path)).toBe("first\n");
    await first.stop();

    await using foreign = python("way = receiver(sys.argv[1]); say(ready=1); print(take(way)[0])", [path]);
    await foreign.until(/ready/);
    const third = await run([INETD, path, "/bin/true"]);
    expect(third).toMatchObject({ code: EXIT.system });
    await pythonOutput("hand(sys.argv[1], payload=b'still there')", path);
    await foreign.until(/still there/);

    writeFileSync(folder.file("text"), "precious");
    const fourth = await run([INETD, folder.file("text"), "/bin/true"]);
    expect(fourth.code).toBe(EXIT.system);
    expect(fourth.out).toContain("ENOTSOCK");
    expect(readFileSync(folder.file("text"), "utf8")).toBe("precious");
  });

  testPython("is never taken from a living socket of another type", async () => {
    using folder = scratch();
    const path = folder.file("s");
    const script = `
import time
with receiver(sys.argv[1], getattr(socket, sys.argv[2])): say(ready=1); time.sleep(600)`;
    for (const type of ["SOCK_STREAM", "SOCK_SEQPACKET"]) {
      await using living = python(script, [`${path}${type}`, type]);
      await living.until(/ready/);
      const inode = statSync(`${path}${type}`).ino;
      const { code, out } = await run([INETD, `${path}${type}`, "/bin/true"]);
      expect(out).toContain(`bind ${path}${type}: EADDRINUSE (address already in use)`);
      expect(code).toBe(EXIT.system);
      expect(statSync(`${path}${type}`).ino).toBe(inode);
    }
  });

  testPython(
    "goes to exactly one of several that start at once, and the others say that it is taken",
    async () => {
      using folder = scratch();
      const path = folder.file("s");
      await pythonOutput("receiver(sys.argv[1]).close()", path); // a stale one makes it harder
      const all = Array.from({ length: 8 }, (_, n) => new Running([INETD, path, ...sh(`echo ${n}`)]));
      const outcomes = await Promise.all(
        all.map((one) =>
          Promise.race([
            one.until(/: ready: /).then(
              () => "won",
              () => "lost",
            ),
            one.ended().then(() => "lost"),
          ]),
        ),
      );
      expect(outcomes.toSorted()).toEqual([...Array(7).fill("lost"), "won"]);
      const winner = outcomes.indexOf("won");
      expect(await askThrough(path)).toBe(`${winner}\n`);
      for (const [n, one] of all.entries()) {
        if (n === winner) continue;
        expect(await one.ended()).toBe(EXIT.system);
        expect(one.log).toContain("EADDRINUSE");
      }
      expect(await all[winner]!.stop()).toBe(0);
    },
  );

  testPython("is removed, and never left behind, whenever the signal comes", async () => {
    using folder = scratch();
    const path = folder.file("s");
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      for (const wait of [0, 1, 2, 4]) {
        await using server = new Running([INETD, path, "/bin/true"]);
        while (!existsSync(path)) await Bun.sleep(0);
        await Bun.sleep(wait);
        server.kill(signal);
        expect([signal, wait, await server.ended()]).toEqual([signal, wait, 0]);
        expect(existsSync(path)).toBe(false);
      }
    }
  });

  testPython("stays, with inetd, where SIGHUP is ignored (nohup)", async () => {
    using folder = scratch();
    const path = folder.file("s");
    await using server = new Running(sh(`trap '' HUP; exec '${INETD}' ${path} /bin/echo here`));
    await server.until(/: ready: /);
    server.kill("SIGHUP");
    expect(await askThrough(path)).toBe("here\n");
    expect(await server.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  testRoot("stays where inetd may no longer remove it, and that is said", async () => {
    using folder = scratch();
    const path = folder.file("s");
    await using server = await inetd(path, "true", ["-u", "nobody"]);
    expect(await server.stop()).toBe(0);
    expect(server.log).toContain(`remove ${path}: EACCES; whoever binds it next takes it over`);
  });

  testPython("is removed at the end only while it is our own", async () => {
    using folder = scratch();
    const path = folder.file("s");
    await using server = await inetd(path, "echo old");
    renameSync(path, folder.file("moved"));
    await using successor = await inetd(path, "echo new");
    expect(await server.stop()).toBe(0);
    expect(existsSync(path)).toBe(true);
    expect(await askThrough(path)).toBe("new\n");
    expect(await successor.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });
});
