/** A new server goes on where the running one is: nobody is turned away, whatever becomes of either. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { native } from "../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { type Found, Predecessor } from "../../src/programs/takeover.ts";
import { receiver, totals } from "../faults/kit.ts";
import { program, root, testWith } from "../kit/require.ts";
import {
  ask,
  bin,
  freePort,
  PATIENCE_MS,
  Running,
  ready,
  run,
  scratch,
  settles,
  threadStatus,
  until,
} from "../kit/running.ts";
import { accepted } from "../kit/sockets.ts";
import { load } from "../kit/tools.ts";
import { Client } from "./relay/kit.ts";

type Scratch = ReturnType<typeof scratch>;

/** A configuration that sends all to the receiver `name`. */
function configuration(folder: Scratch, port: number, name: string, more = ""): string {
  const file = folder.file("c.toml");
  writeFileSync(
    file,
    `${more}\n[[listen]]\nname = "web"\nport = ${port}\n[[route]]\nto = "target:t"\n` +
      `[target.t]\nto = "unix:${folder.file(name)}"\nwait = "2m"\n`, // as long as it takes to start a program
  );
  return file;
}

/** Somebody who gets so many waiting connections, and is gone before it says that it has them. */
function failedTakeover(path: string, count = 100): void {
  using _successor = hangingTakeover(path, count);
}

/** The same, while it is still there. */
function hangingTakeover(path: string, count = 100): Predecessor {
  const successor = Predecessor.find(path, [process.geteuid!()])!;
  letGo(successor.listeners()!);
  const { waiting } = successor.rest();
  expect(waiting).toHaveLength(count);
  for (const { flow } of waiting) native.sb_close(flow[FLOW_FD_WORD]! | 0);
  return successor;
}

function letGo({ listeners, registries, takeover }: Found): void {
  takeover?.close();
  for (const registry of registries.values()) registry.close();
  for (const { fds } of listeners) for (const fd of fds) fd.close();
}

function start(folder: Scratch): Promise<Running> {
  return ready("socketbox", ["-f", folder.file("c.toml"), "--takeover", folder.file("takeover")]);
}

/** So many clients at once, for whom there is no receiver yet; `waiting` resolves when all have been answered. */
async function crowd(server: Running, port: number, count: number) {
  const waiting = load({ port, count, atATime: count });
  await server.until(/its connections wait/);
  await settles(() => accepted(port), count);
  return { waiting };
}

describe("a takeover", () => {
  test("brings what waits along", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 300);
    await using second = await start(folder);
    expect(await first.ended()).toBe(0);
    expect(first.log).toMatch(/handing over 300 waiting connections/);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 300, closed: 0, reset: 0, refused: 0 });
    await second.stop();
    expect(second.log).toContain("stopped: 300 accepted, 300 delivered");
  });

  test("brings along clients whose PROXY header is still to come, or has come by half", async () => {
    using folder = scratch();
    const port = await freePort();
    const echo = ["/bin/sh", "-c", 'echo "$REMOTE_ADDR" "$REMOTE_PORT"'];
    await using _inetd = await ready("socketbox-inetd", [folder.file("r"), ...echo]);
    writeFileSync(
      folder.file("c.toml"),
      `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\nproxy = "require"\nproxy-from = "127.0.0.0/8"\n` +
        `proxy-timeout = "1m"\n[[route]]\nto = "unix:${folder.file("r")}"\n`,
    );
    await using first = await start(folder);
    using half = new Client(port);
    half.send("PROXY TCP4 192.0.2.7 ");
    using silent = new Client(port);
    // Whoever comes after them is served: so they have been accepted.
    using whole = new Client(port);
    whole.send("PROXY TCP4 192.0.2.9 192.0.2.80 4713 80\r\n");
    await whole.hears("192.0.2.9 4713\n");
    await using _second = await start(folder);
    expect(await first.ended()).toBe(0);
    half.send("192.0.2.80 4711 80\r\n");
    await half.hears("192.0.2.7 4711\n");
    silent.send("PROXY TCP4 192.0.2.8 192.0.2.80 4712 80\r\n");
    await silent.hears("192.0.2.8 4712\n");
  });

  test("that is told to stop before it is ready leaves the old server as it was", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "r");
    await using _receiver = await receiver(folder.file("r"));
    await using first = await start(folder);
    // What the successor binds beside it shows how far it has come.
    const registry = folder.file("registry");
    configuration(folder, port, "r", `[[registry]]\npath = "${registry}"\n[[registry.allow]]\nslot = 1\n`);
    const words = ["-f", folder.file("c.toml"), "--takeover", folder.file("takeover")];
    await using second = new Running([bin("socketbox"), ...words]);
    while (!existsSync(registry)) await Bun.sleep(0);
    expect(await second.stop()).toBe(0);
    expect(second.log).toContain("stopped before it was ready");
    expect(existsSync(registry)).toBe(false);
    expect(await ask(port, "127.0.0.1")).toBe("k");
    await using third = await start(folder);
    expect(await first.ended()).toBe(0);
    expect(await ask(port, "127.0.0.1")).toBe("k");
    await third.stop();
  });

  test("brings registrations along: a receiver never notices", async () => {
    using folder = scratch();
    const port = await freePort();
    writeFileSync(
      folder.file("c.toml"),
      `[[listen]]\nport = ${port}\n[[route]]\nto = "slot:3"\n` +
        `[[registry]]\npath = "${folder.file("r")}"\n[[registry.allow]]\nslot = [3, 4]\n`,
    );
    await using first = await start(folder);
    await using holder = await ready("socketbox-inetd-p", [folder.file("r"), "3", "/bin/echo", "x"]);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
    await using second = await start(folder);
    expect(await first.ended()).toBe(0);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
    // The registry itself goes on too, and still knows who has what.
    const refused = await run([bin("socketbox-inetd-p"), folder.file("r"), "3", "/bin/true"]);
    expect(refused.out).toContain("the server refused");
    await using _other = await ready("socketbox-inetd-p", [folder.file("r"), "4", "/bin/echo", "y"]);
    await holder.stop();
    await second.until(/slot 3: has gone/);
  });

  test("takes the new configuration's listeners, and empties those that it does not have", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    await using _receiver = await receiver(folder.file("k"));
    configuration(folder, port, "k", `[[listen]]\nname = "old"\nport = ${other}`);
    await using first = await start(folder);
    const both = Promise.all([
      load({ port, count: 5_000, atATime: 32 }),
      load({ port: other, count: 5_000, atATime: 32 }),
    ]);
    await Bun.sleep(50);
    const added = await freePort();
    configuration(folder, port, "k", `[[listen]]\nname = "new"\nport = ${added}`);
    await using _second = await start(folder);
    expect(await first.ended()).toBe(0);
    const [kept, removed] = await both;
    expect(kept).toMatchObject({ served: 5_000 });
    expect(removed).toMatchObject({ closed: 0, reset: 0, stuck: 0 });
    expect(removed.served + removed.refused).toBe(5_000);
    expect(await ask(added, "127.0.0.1")).toBe("k");
  });

  test("hands on what another server gives it (-P)", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _receiver = await receiver(folder.file("k"));
    writeFileSync(
      folder.file("outer.toml"),
      `[[listen]]\nport = ${port}\n[[route]]\nto = "slot:1"\n` +
        `[[registry]]\npath = "${folder.file("r")}"\n[[registry.allow]]\nslot = 1\n`,
    );
    await using _outer = await ready("socketbox", ["-f", folder.file("outer.toml")]);
    const args = [
      ...["-P", `1:${folder.file("r")}`, "-S", folder.file("k")],
      ...["--takeover", folder.file("takeover")],
    ];
    let inner = await ready("socketbox", args);
    const outcome = load({ port, count: 5_000, atATime: 32 });
    for (let round = 0; round < 4; round++) {
      const next = await ready("socketbox", args);
      expect(await inner.ended()).toBe(0);
      inner = next;
    }
    expect(await outcome).toMatchObject({ served: 5_000, closed: 0, reset: 0, refused: 0, stuck: 0 });
    expect(await inner.stop()).toBe(0);
  });

  test("from a server that has been told to stop brings what waits along, and listens on", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    first.kill("SIGTERM");
    await Bun.sleep(100);
    await using second = await start(folder);
    expect(await first.ended()).toBe(0);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0, refused: 0 });
    expect(await ask(port, "127.0.0.1")).toBe("k");
    expect(await totals(second)).toEqual({ accepted: 101, delivered: 101 });
  });

  for (const fails of [false, true])
    test(`from a server some of whose acceptors have stopped already ${fails ? "may fail" : "brings what waits along"}`, async () => {
      using folder = scratch();
      const port = await freePort();
      configuration(folder, port, "late", "[server]\nworkers = 3");
      await using first = await start(folder);
      const { waiting } = await crowd(first, port, 1);
      first.kill("SIGTERM");
      await Bun.sleep(200); // those who have nothing to deliver end
      if (fails) failedTakeover(folder.file("takeover"), 1);
      await using second = fails ? first : await start(folder);
      await using _late = await receiver(folder.file("late"));
      expect(await waiting).toMatchObject({ served: 1, closed: 0, reset: 0 });
      expect(await first.ended()).toBe(0);
      if (!fails) expect(await totals(second)).toEqual({ accepted: 1, delivered: 1 });
    });

  test("lets the first one stop only when it is over, and gives nobody up who waits", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    {
      using _successor = hangingTakeover(folder.file("takeover"));
      first.kill("SIGTERM");
      await Bun.sleep(200);
    }
    await first.until(/going on/);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0 });
    expect(await first.ended()).toBe(0);
    expect(first.log).toContain("stopped: 100 accepted, 100 delivered");
  });

  test("is settled before the first one ends, however often it is told to", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    {
      using _successor = hangingTakeover(folder.file("takeover"));
      for (let times = 0; times < 3; times++) {
        first.kill("SIGTERM");
        // One that comes before another has been taken is the same one (signal(7)).
        await until(
          () => /^0+$/.test(threadStatus(first.pid, "ShdPnd")[0]!),
          () => "the signal is not taken",
        );
        await Bun.sleep(50);
      }
      expect(first.log).not.toContain("stopped");
    }
    expect(await first.ended()).toBe(0);
    expect(await waiting).toMatchObject({ served: 0, stuck: 0 });
    expect(first.log).toContain("stopped: 100 accepted, 100 shutdown");
  });

  test("is settled before a reload begins, which then does all that it should", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    {
      using _successor = hangingTakeover(folder.file("takeover"));
      configuration(folder, port, "late", `[[listen]]\nname = "more"\nport = ${other}`);
      first.kill("SIGHUP");
      await Bun.sleep(300);
    }
    await first.until(/going on[\s\S]*: reloaded: \+listener more/);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0 });
    expect(await ask(other, "127.0.0.1")).toBe("k");
    await using second = await start(folder);
    first.kill("SIGHUP"); // it may come too late
    expect(await first.ended()).toBe(0);
    expect(first.log).toContain("stopped: 101 accepted, 101 delivered");
    expect(await ask(other, "127.0.0.1")).toBe("k");
    expect(await totals(second)).toEqual({ accepted: 1, delivered: 1 });
  });

  test("leaves who comes to register meanwhile to whoever goes on", async () => {
    using folder = scratch();
    const port = await freePort();
    const registry =
      `[[registry]]\npath = "${folder.file("r")}"\n[[registry.allow]]\nslot = 3\n` +
      `[[route]]\nlocal = "127.0.0.2"\nto = "slot:3"\n`;
    configuration(folder, port, "late", registry);
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    const successor = hangingTakeover(folder.file("takeover"));
    await using holder = new Running([bin("socketbox-inetd-p"), folder.file("r"), "3", "/bin/echo", "x"]);
    await Bun.sleep(500);
    expect(holder.log).toBe("");
    successor[Symbol.dispose]();
    await first.until(/going on/);
    await holder.until(/: ready: /);
    expect(await ask(port, "127.0.0.2")).toBe("x\n");
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0 });
  });

  test("is settled before a reload that was asked for while another one kept it waiting", async () => {
    using folder = scratch();
    const [port, other, third] = [await freePort(), await freePort(), await freePort()];
    const file = configuration(folder, port, "late", `[[listen]]\nname = "other"\nport = ${other}`);
    const few = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", bin("socketbox")]; // 25 may wait
    await using first = new Running([...few, "-f", file, "--takeover", folder.file("takeover")]);
    await first.until(/: ready: /);
    const waiting = load({ port, count: 40, atATime: 40 });
    await first.until(/accepting pauses/);
    {
      using successor = Predecessor.find(folder.file("takeover"), [process.geteuid!()])!;
      letGo(successor.listeners()!);
      configuration(folder, port, "late");
      first.kill("SIGHUP"); // its end is waited for: a listener is emptied when others may wait
      await first.until(/reloaded: -listener other/);
      configuration(folder, port, "late", `[[listen]]\nname = "third"\nport = ${third}`);
      const again = run(["sh", "-c", `sleep 0.5; kill -HUP ${first.pid}`]);
      for (const { flow } of successor.rest().waiting) native.sb_close(flow[FLOW_FD_WORD]! | 0);
      await again;
      await Bun.sleep(300);
    }
    await first.until(/going on[\s\S]*: reloaded: \+listener third/);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 40, closed: 0, reset: 0 });
    expect(await ask(third, "127.0.0.1")).toBe("k");
  });

  test("leaves the paths to a successor that has begun, and to nobody when that has failed", async () => {
    using folder = scratch();
    const paths = [folder.file("r"), folder.file("takeover")];
    const registry = `[[registry]]\npath = "${paths[0]}"\n[[registry.allow]]\nslot = 3`;
    configuration(folder, await freePort(), "late", registry);
    for (const fails of [true, false]) {
      await using first = await start(folder);
      const successor = Predecessor.find(folder.file("takeover"), [process.geteuid!()])!;
      letGo(successor.listeners()!);
      if (fails) {
        successor[Symbol.dispose]();
        await first.until(/going on/);
      }
      expect(await first.stop()).toBe(0);
      expect(paths.map((path) => existsSync(path))).toEqual([!fails, !fails]);
      if (!fails) successor[Symbol.dispose]();
    }
  });

  test("from a server that dies in the middle of it goes on with what had come", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    for (const last of ["listeners", "rest"]) {
      await using first = await start(folder);
      const { waiting } = await crowd(first, port, 100);
      using successor = Predecessor.find(folder.file("takeover"), [process.geteuid!()])!;
      const { listeners, takeover } = successor.listeners()!;
      takeover?.close();
      const rest = last === "rest" ? successor.rest() : undefined;
      first.kill("SIGKILL");
      await first.ended();
      const { waiting: came } = rest ?? successor.rest();
      successor.leave();
      expect({ died: successor.died, came: came.length }).toEqual({ died: true, came: rest ? 100 : 0 });
      for (const { flow } of came) native.sb_close(flow[FLOW_FD_WORD]! | 0);
      for (const { fds } of listeners) for (const fd of fds) fd.close();
      expect((await waiting).stuck).toBe(0);
    }
  });

  testWith(program("strace"))(
    "is finished by the successor wherever the first one dies: whoever was handed over is served",
    async () => {
      using folder = scratch();
      const port = await freePort();
      configuration(folder, port, "late");
      // Each message is a call: three before those who wait.
      for (const { at, served } of [
        { at: 1, served: 0 },
        { at: 3, served: 0 },
        { at: 14, served: 10 },
        { at: 53, served: 49 },
      ]) {
        const dying = ["strace", "-f", "-o", "/dev/null", "-e", `inject=sendmmsg:signal=KILL:when=${at}`];
        const arguments_ = ["-f", folder.file("c.toml"), "--takeover", folder.file("takeover")];
        await using first = new Running([...dying, bin("socketbox"), ...arguments_]);
        await first.until(/: ready: /);
        const { waiting } = await crowd(first, port, 50);
        await using second = await start(folder);
        if (at > 3)
          expect(second.log).toContain("has ended: what it neither handed over nor delivered is lost");
        await using late = await receiver(folder.file("late"));
        expect(await waiting).toMatchObject({ served, closed: 50 - served, reset: 0, refused: 0 });
        expect(await ask(port, "127.0.0.1")).toBe("k");
        await late.stop();
        await second.stop();
      }
    },
  );

  test("by two who come at once is one after the other: nobody is sent away", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    const both = await Promise.all([start(folder), start(folder)]);
    await using _one = both[0];
    await using _other = both[1];
    expect(await first.ended()).toBe(0);
    expect(await Promise.race(both.map((server) => server.ended()))).toBe(0);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0, refused: 0 });
  });

  test("by one that comes the moment another has failed is not refused", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _receiver = await receiver(folder.file("k"));
    configuration(folder, port, "k");
    await using first = await start(folder);
    for (let times = 0; times < 20; times++) {
      Predecessor.find(folder.file("takeover"), [process.geteuid!()])![Symbol.dispose]();
      using next = Predecessor.find(folder.file("takeover"), [process.geteuid!()])!;
      const { listeners, takeover } = next.listeners()!;
      expect(listeners).toHaveLength(1);
      takeover?.close();
      for (const { fds } of listeners) for (const fd of fds) fd.close();
    }
    expect(await ask(port, "127.0.0.1")).toBe("k");
    expect(first.log).not.toContain("refused");
  });

  test("by a server whose configuration is wrong changes nothing", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _receiver = await receiver(folder.file("k"));
    const file = configuration(folder, port, "k");
    await using first = await start(folder);
    writeFileSync(file, "[[listen]]\nport = 0x\n");
    await expect(start(folder)).rejects.toThrow("exit code 1");
    expect(await ask(port, "127.0.0.1")).toBe("k");
    configuration(folder, port, "k");
    await using _second = await start(folder);
    expect(await first.ended()).toBe(0);
    expect(await ask(port, "127.0.0.1")).toBe("k");
  });

  test("by one that fails half-way leaves the first one serving, with all that waits", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    failedTakeover(folder.file("takeover"));
    await first.until(/going on/);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0 });
    expect(await ask(port, "127.0.0.1")).toBe("k");
    expect(await totals(first)).toEqual({ accepted: 101, delivered: 101 });
  });

  test("by one that hangs when it has all leaves the first one serving, and cannot go on any more", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    using hanging = hangingTakeover(folder.file("takeover"));
    await first.until(/going on/);
    expect(() => hanging.leave()).toThrow("it has gone");
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0 });
    expect(await totals(first)).toEqual({ accepted: 100, delivered: 100 });
  });

  test("by one that says in time that it has all is over, however late the first one hears it", async () => {
    using folder = scratch();
    const port = await freePort();
    configuration(folder, port, "late");
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    using successor = hangingTakeover(folder.file("takeover"));
    first.kill("SIGSTOP");
    successor.leave();
    await Bun.sleep(3500); // longer than it would have waited
    first.kill("SIGCONT");
    expect(await first.ended()).toBe(0);
    expect(first.log).toContain("handed over");
    expect(first.log).not.toContain("going on");
    expect(await waiting).toMatchObject({ served: 0, stuck: 0 });
  });

  test("that fails takes nothing from who waited, though one acceptor gets what several had", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    writeFileSync(
      file,
      `[server]\nworkers = 2\n[[listen]]\nport = ${port}\n[[route]]\nto = "target:late"\n` +
        `[target.late]\nto = "unix:${folder.file("late")}"\nqueue = 80\n`,
    );
    await using first = await start(folder);
    const { waiting } = await crowd(first, port, 100);
    failedTakeover(folder.file("takeover"));
    await first.until(/going on/);
    await using _late = await receiver(folder.file("late"));
    expect(await waiting).toMatchObject({ served: 100, closed: 0, reset: 0 });
    expect(await totals(first)).toEqual({ accepted: 100, delivered: 100 });
  });

  test("does not make anybody wait longer than `wait`: however many come, who waits is given up in time", async () => {
    using folder = scratch();
    const port = await freePort();
    writeFileSync(
      folder.file("c.toml"),
      `[[listen]]\nport = ${port}\n[[route]]\nto = "target:none"\n` +
        `[target.none]\nto = "unix:${folder.file("none")}"\nwait = "1500ms"\n`,
    );
    let server = await start(folder);
    let ended = false;
    const waiting = load({ port, count: 1, atATime: 1 }).finally(() => {
      ended = true;
    });
    await server.until(/its connections wait/);
    let log = "";
    for (const end = Date.now() + PATIENCE_MS; !ended && Date.now() < end; ) {
      const next = await start(folder);
      await server.ended();
      log += server.log;
      server = next;
    }
    expect(ended).toBe(true);
    expect(await waiting).toMatchObject({ served: 0 });
    await server.stop();
    expect(log + server.log).toContain("connection given up: no-receiver (to none)");
  });

  test("brings along who has had a header without ends (LOCAL), and does not ask for another", async () => {
    using folder = scratch();
    const port = await freePort();
    writeFileSync(
      folder.file("c.toml"),
      `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\nproxy = "require"\nproxy-from = "127.0.0.1"\n` +
        `proxy-timeout = "1m"\n[[route]]\nto = "unix:${folder.file("late")}"\n`,
    );
    await using first = await start(folder);
    const [checked, half] = [new Client(port), new Client(port)];
    using _checked = checked;
    using _half = half;
    checked.send("PROXY UNKNOWN\r\nhello");
    half.send("PROXY UNK");
    await first.until(/its connections wait/);
    await settles(() => accepted(port), 2);
    await using second = await start(folder);
    expect(await first.ended()).toBe(0);
    expect(first.log).toContain("handing over 2 waiting connections");
    half.send("NOWN\r\n");
    await using _late = await receiver(folder.file("late"));
    await checked.hears("k");
    await half.hears("k");
    expect(await totals(second)).toEqual({ accepted: 2, delivered: 2 });
  });

  testWith(root, program("setpriv"))("is for the same user and root alone", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o755);
    const port = await freePort();
    await using _receiver = await receiver(folder.file("k"));
    const file = configuration(folder, port, "k");
    await using first = await start(folder);
    const intruder = () =>
      run([
        ...["setpriv", "--reuid", "65534", "--clear-groups", bin("socketbox")],
        ...["-f", file, "--takeover", folder.file("takeover")],
      ]);
    expect((await intruder()).out).toMatch(/takeover: EACCES/);
    chmodSync(folder.file("takeover"), 0o666); // even where its mode would let them
    expect((await intruder()).out).toMatch(/cannot take over .*: /);
    chmodSync(folder.file("takeover"), 0o666);
    using _stranger = await connectAs("65534", folder.file("takeover"));
    await first.until(/a takeover by uid 65534 is refused/);
    expect(await ask(port, "127.0.0.1")).toBe("k");
  });

  testWith(root)("from a server that has given up its privileges keeps its low port", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o777);
    await using _receiver = await receiver(folder.file("k"));
    chmodSync(folder.file("k"), 0o666);
    const port = 81;
    const file = configuration(folder, port, "k", '[server]\nuser = "nobody"');
    await using first = await start(folder);
    expect(await ask(port, "127.0.0.1")).toBe("k");
    // The next one never was root: what it could not bind it is given.
    writeFileSync(
      file,
      `[[listen]]\nname = "web"\nport = ${port}\n[[route]]\nto = "unix:${folder.file("k")}"\n`,
    );
    chmodSync(folder.file("takeover"), 0o666);
    const second = new Running([
      ...["setpriv", "--reuid", "nobody", "--clear-groups", bin("socketbox")],
      ...["-f", file, "--takeover", folder.file("takeover")],
    ]);
    await using _second = second;
    await second.until(/: ready: /);
    expect(await first.ended()).toBe(0);
    expect(await ask(port, "127.0.0.1")).toBe("k");
  });
});

/** Connects as another user, and stays. */
async function connectAs(uid: string, path: string): Promise<Disposable> {
  const script = `import os, socket, sys; os.setuid(${uid}); s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(${JSON.stringify(path)}); print("connected", flush=True); sys.stdin.read()`;
  const running = new Running(["python3", "-c", script]);
  await running.until(/connected/);
  return { [Symbol.dispose]: () => running.kill("SIGKILL") };
}
