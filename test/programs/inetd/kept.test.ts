/** A receiving socket that somebody else keeps outlives its receiver, and so does what waits in it. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { serverTo, totals } from "../../faults/kit.ts";
import { FakeManager, passing } from "../../kit/passed.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ask, bin, freePort, Running, ready, scratch } from "../../kit/running.ts";
import { boundUnix } from "../../kit/sockets.ts";
import { load } from "../../kit/tools.ts";

describe("a kept mailbox", () => {
  test("is adopted, stays at its path, and hands what waits from one receiver to the next", async () => {
    using folder = scratch();
    const box = folder.file("box");
    using kept = boundUnix(box);
    using manager = new FakeManager(folder.file("notify"));
    const { running, port } = await serverTo(box);
    await using _server = running;
    const start = () =>
      passing("socketbox-inetd", [box, "/bin/echo", "x"], [["box", kept.number]], { env: manager.env });
    const outcome = load({ port, count: 2_000, atATime: 32 });
    for (const signal of ["SIGTERM", "SIGTERM", "SIGINT"] as const) {
      await using inetd = start();
      await inetd.until(/: ready: /);
      await Bun.sleep(150);
      inetd.kill(signal);
      expect(await inetd.ended()).toBe(0);
      expect(inetd.log).toContain("what has come is for the next one");
      expect(existsSync(box)).toBe(true);
    }
    await using last = start();
    await last.until(/: ready: /);
    expect(await outcome).toMatchObject({ served: 2_000, closed: 0, reset: 0, stuck: 0 });
    await manager.until(/^READY=1$/);
    await manager.until(/^STOPPING=1$/);
  });

  test("keeps its queue even when the receiver is killed", async () => {
    using folder = scratch();
    const box = folder.file("box");
    using kept = boundUnix(box);
    const { running, port } = await serverTo(box);
    await using _server = running;
    const wait = `while [ ! -e ${folder.file("go")} ]; do sleep 0.01; done; echo x`;
    const args = ["--max", "1", box, "/bin/sh", "-c", wait];
    await using first = passing("socketbox-inetd", args, [["box", kept.number]]);
    await first.until(/: ready: /);
    const asked = Array.from({ length: 8 }, () => ask(port, "127.0.0.1"));
    await first.until(/start \d+/);
    first.kill("SIGKILL");
    await first.ended();
    writeFileSync(folder.file("go"), "");
    await using _second = passing("socketbox-inetd", [box, "/bin/echo", "x"], [["box", kept.number]]);
    // The one that was being served is its child's to finish; all others were still in the queue.
    expect(await Promise.all(asked)).toEqual(Array(8).fill("x\n"));
  });

  test("loses no more than the one that was just being started when the receiver is killed under load", async () => {
    using folder = scratch();
    const box = folder.file("box");
    using kept = boundUnix(box);
    const port = await freePort();
    await using server = await ready("socketbox", ["-p", String(port), "-S", box]);
    const outcome = load({ port, count: 2_000, atATime: 64 });
    const kills = 5;
    for (let times = 0; times < kills; times++) {
      await using inetd = passing("socketbox-inetd", [box, "/bin/echo", "x"], [["box", kept.number]]);
      await inetd.until(/start \d+/);
      await Bun.sleep(100);
      inetd.kill("SIGKILL");
    }
    await using _last = passing("socketbox-inetd", [box, "/bin/echo", "x"], [["box", kept.number]]);
    const { served, closed, reset, stuck } = await outcome;
    expect({ all: served + closed + reset, stuck }).toEqual({ all: 2_000, stuck: 0 });
    expect(closed + reset).toBeLessThanOrEqual(kills);
    expect(await totals(server)).toEqual({ accepted: 2_000, delivered: 2_000 });
  });

  test("that is bound elsewhere is not taken for the one that is meant", async () => {
    using folder = scratch();
    using kept = boundUnix(folder.file("other"));
    await using inetd = passing("socketbox-inetd", [folder.file("box"), "/bin/true"], [["x", kept.number]]);
    expect(await inetd.ended()).toBe(1);
    expect(inetd.log).toContain(`none of the 1 sockets that were passed is bound at ${folder.file("box")}`);
  });

  test("is no business of the children", async () => {
    using folder = scratch();
    const box = folder.file("box");
    using kept = boundUnix(box);
    using manager = new FakeManager(folder.file("notify"));
    const port = await freePort();
    await using _server = await ready("socketbox", ["-p", String(port), "-S", box]);
    const args = [box, "/bin/sh", "-c", "env; ls -l /proc/self/fd"];
    await using inetd = passing("socketbox-inetd", args, [["box", kept.number]], { env: manager.env });
    await inetd.until(/: ready: /);
    const seen = await ask(port, "127.0.0.1");
    expect(seen).toContain("TCPREMOTEIP=");
    expect(seen).not.toMatch(/LISTEN_|NOTIFY_/);
    expect(seen.match(/ [3-9] -> socket:/g)).toBeNull();
  });
});

describe("--from-uid", () => {
  testWith(root, program("setpriv"))("takes connections from that user alone", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o755);
    const box = folder.file("box");
    await using inetd = await ready("socketbox-inetd", ["--from-uid", "daemon", box, "/bin/echo", "x"]);
    const [good, bad] = [await freePort(), await freePort()];
    // Root's group, because the socket lets it write.
    const server = (port: number, user: string) => [
      ..."-g 0 -u".split(" "),
      user,
      "-p",
      String(port),
      "-S",
      box,
    ];
    await using _one = await ready("socketbox", server(good, "daemon"));
    await using _two = await ready("socketbox", server(bad, "games"));
    expect(await ask(good, "127.0.0.1")).toBe("x\n");
    expect(await ask(bad, "127.0.0.1")).toBe("");
    await inetd.until(/dropped a message: it does not come from whom --from-uid names/);
    expect(await ask(good, "127.0.0.1")).toBe("x\n");
  });

  testWith(root, program("setpriv"))("holds for a registered receiver too", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    await Bun.write(
      file,
      `[[listen]]\nport = ${port}\n[[route]]\nto = "slot:1"\n` +
        `[[registry]]\npath = "${folder.file("r")}"\n[[registry.allow]]\nslot = 1\n`,
    );
    await using _server = await ready("socketbox", ["-f", file]);
    const args = [folder.file("r"), "1", "/bin/echo", "x"];
    await using wrong = await ready("socketbox-inetd-p", ["--from-uid", "daemon", ...args]);
    expect(await ask(port, "127.0.0.1")).toBe("");
    await wrong.stop();
    await using _right = await ready("socketbox-inetd-p", ["--from-uid", "0", ...args]);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
  });

  test("with a user who does not exist is refused", async () => {
    using folder = scratch();
    await using inetd = new Running([
      bin("socketbox-inetd"),
      ...["--from-uid", "no-such-user", folder.file("box"), "/bin/true"],
    ]);
    expect(await inetd.ended()).not.toBe(0);
    expect(inetd.log).toContain('there is no user "no-such-user"');
    expect(existsSync(folder.file("box"))).toBe(false);
  });
});
