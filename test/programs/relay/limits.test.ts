/** Limits, time-outs, draining and reloading, with real connections. */
import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { pythonCommand } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ask, bin, freePort, must, Running, ready, scratch, threadStatus, until } from "../../kit/running.ts";
import { Client, ended, fromFile, named, relayed, target } from "./kit.ts";

const needsPython = program("python3");

/** Sends until nothing is taken any more, then resets. */
const FILL_AND_RESET = `
import socket, struct, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setblocking(False)
for _ in range(10):
    try:
        while True: s.send(bytes(1 << 16))
    except BlockingIOError:
        time.sleep(0.02)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
`;

describe("limits", () => {
  test("beyond --max connections wait, and are served when one has ended", async () => {
    await using between = await relayed(["--max", "2"]);
    using server = named("served", between.target);
    const [first, second, third] = [
      new Client(between.port),
      new Client(between.port),
      new Client(between.port),
    ];
    await first.hears("served");
    await second.hears("served");
    await between.relay.until(/pausing: limit of 2 reached \(max\); connections wait/);
    expect({ third: third.heard, open: server.open }).toEqual({ third: "", open: 2 });
    first.finish();
    await third.hears("served");
    for (const client of [first, second, third]) client[Symbol.dispose]();
  });

  test("beyond --per-source connections are refused, and others are not", async () => {
    await using between = await relayed(["--per-source", "1"]);
    using _server = named("served", between.target);
    using first = new Client(between.port);
    await first.hears("served");
    expect(await ask(between.port, "127.0.0.1")).toBe("");
    expect(await ended(between.relay, 1)).toEqual(["limit (per-source); no target; 0 bytes up, 0 down"]);
    using other = new Client(between.port, "127.0.0.2");
    await other.hears("served");
    first.finish();
    await ended(between.relay, 2);
    expect(await ask(between.port, "127.0.0.1")).toBe("served");
  });
});

describe("time-outs", () => {
  test("--idle-timeout ends what is still, with a reset, and leaves alone what moves", async () => {
    await using between = await relayed(["--idle-timeout", "1s"]);
    using _server = named("hi", between.target);
    using idle = new Client(between.port);
    using busy = new Client(between.port);
    await idle.hears("hi");
    const talk = setInterval(() => busy.send("x"), 10);
    expect(await idle.ends()).toBe("reset");
    expect(busy.ending).toBeUndefined();
    clearInterval(talk);
    expect(await ended(between.relay, 1)).toEqual([
      `idle-timeout; to [::ffff:127.0.0.1]:${between.target}; 0 bytes up, 2 down`,
    ]);
  });

  testWith(needsPython)("--half-closed-timeout ends what only one side has finished", async () => {
    await using between = await relayed(["--half-closed-timeout", "200ms"]);
    await using _silent = await target("silent", between.target);
    using open = new Client(between.port);
    using half = new Client(between.port);
    half.finish();
    expect(await ended(between.relay, 1)).toEqual([
      `half-closed-timeout; to [::ffff:127.0.0.1]:${between.target}; 0 bytes up, 0 down`,
    ]);
    expect(await half.ends()).toBe("reset");
    expect(open.ending).toBeUndefined();
  });

  testWith(needsPython)(
    "--half-closed-timeout counts a client that is gone while its target reads nothing",
    async () => {
      await using between = await relayed(["--half-closed-timeout", "200ms"]);
      await using _silent = await target("silent", between.target);
      await must(pythonCommand(FILL_AND_RESET, between.port));
      expect((await ended(between.relay, 1))[0]).toStartWith("half-closed-timeout; ");
    },
  );

  test("--total-timeout ends what moves as well", async () => {
    await using between = await relayed(["--total-timeout", "300ms"]);
    using _server = named("hi", between.target);
    using busy = new Client(between.port);
    const talk = setInterval(() => busy.send("x"), 30);
    expect(await busy.ends()).toBe("reset");
    clearInterval(talk);
    expect((await ended(between.relay, 1))[0]).toStartWith("total-timeout; ");
  });
});

describe("SIGTERM", () => {
  test("lets connections go on until they end, and takes no new ones", async () => {
    await using between = await relayed();
    using _server = named("hi", between.target);
    using client = new Client(between.port);
    await client.hears("hi");
    between.relay.kill("SIGTERM");
    await between.relay.until(/stopping: 1 connections go on/);
    using late = new Client(between.port);
    client.send("still here");
    client.finish();
    expect(await client.ends()).toBe("end");
    expect(await between.relay.ended()).toBe(0);
    expect(late.heard).toBe("");
    expect(await ended(between.relay, 1)).toEqual([
      `closed; to [::ffff:127.0.0.1]:${between.target}; 10 bytes up, 2 down`,
    ]);
  });

  testWith(program("prlimit"))("serves what has come, also behind one that is refused at once", async () => {
    using folder = scratch();
    const [port, behind, box] = [await freePort(), await freePort(), folder.file("box")];
    using _server = named("served", behind);
    const text = `[[relay]]
from = "unix:${box}"
to = "127.0.0.1:${behind}"
proxy = "require"
proxy-from = "127.0.0.2"
`;
    writeFileSync(folder.file("relay.toml"), text);
    await using relay = await ready("socketbox-relay", ["--config", folder.file("relay.toml")]);
    await using server = await ready("socketbox", ["-l", "::ffff:127.0.0.1", "-p", String(port), "-S", box]);
    const limit = (soft: number) => must(["prlimit", "--pid", String(relay.pid), `--nofile=${soft}:`]);
    await limit(3);
    using refused = new Client(port);
    using first = new Client(port, "127.0.0.2");
    using second = new Client(port, "127.0.0.2");
    for (const client of [refused, first, second]) client.send("PROXY UNKNOWN\r\nhello");
    await until(
      () => [refused, first, second].every(({ connected }) => connected),
      () => "not all are connected",
    );
    await relay.until(/pausing: EMFILE; connections wait/);
    await server.stop(); // it has handed over what it had
    relay.kill("SIGTERM");
    await limit(1024);
    for (const client of [first, second]) {
      await client.hears("served");
      client.finish();
    }
    expect(await refused.ends()).toBe("reset");
    expect(await relay.ended()).toBe(0);
    expect((await ended(relay, 3)).map((line) => line.split(";")[0])).toEqual([
      "proxy-header (the sender is not in proxy-from)",
      "closed",
      "closed",
    ]);
  });

  testWith(needsPython)(
    "of one that takes from a connected socket does not mean that the server has gone",
    async () => {
      const start = `
import os, socket, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.set_inheritable(ours.fileno(), True)
os.dup2(theirs.fileno(), 0)
os.execv(sys.argv[1], [sys.argv[1], "-e", "-l", "0", "-p", "9"])`;
      await using relay = new Running(pythonCommand(start, bin("socketbox-relay")));
      await relay.until(/: ready: /);
      expect(await relay.stop()).toBe(0);
      expect(relay.log).not.toContain("gone");
    },
  );

  test("ends what goes on for longer than --drain, with a reset", async () => {
    await using between = await relayed(["--drain", "100ms"]);
    using _server = named("hi", between.target);
    using client = new Client(between.port);
    await client.hears("hi");
    expect(await between.relay.stop()).toBe(0);
    expect(await client.ends()).toBe("reset");
    expect(await ended(between.relay, 1)).toEqual([
      `shutdown; to [::ffff:127.0.0.1]:${between.target}; 0 bytes up, 2 down`,
    ]);
  });

  test("a second time ends at once", async () => {
    await using between = await relayed();
    using _server = named("hi", between.target);
    using client = new Client(between.port);
    await client.hears("hi");
    between.relay.kill("SIGTERM");
    await between.relay.until(/stopping/);
    between.relay.kill("SIGTERM");
    expect(await between.relay.ended()).toBe(0);
  });
});

describe("SIGTERM lets go at once, and not when the last connection has ended, of", () => {
  test.each(["-s", "--register"])("what a successor wants: %s", async (option) => {
    using folder = scratch();
    const [port, behind] = [await freePort(), await freePort()];
    const [file, box] = [folder.file("server.toml"), `@sb-${process.pid}-box`];
    using _server = named("served", behind);
    const registry = folder.file("registry");
    const [where, to] = option === "-s" ? [box, `unix:${box}`] : [`1:${registry}`, "slot:1"];
    const more = `[[registry]]\npath = "${registry}"\n[[registry.allow]]\nslot = 1\n`;
    const text = `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n${more}[[route]]\nto = "${to}"\n`;
    writeFileSync(file, text);
    await using _front = await ready("socketbox", ["-f", file]);
    const args = [option, where, "--to", `127.0.0.1:${behind}`, "--drain", "10m"];
    await using first = await ready("socketbox-relay", args);
    using stays = new Client(port);
    await stays.hears("served");
    first.kill("SIGTERM");
    await first.until(/stopping: 1 connections go on/);
    await using _second = await ready("socketbox-relay", args);
    expect(await ask(port, "127.0.0.1")).toBe("served");
    stays.finish();
    expect(await first.ended()).toBe(0);
  });
});

describe("SIGHUP", () => {
  test("reads the file again: new connections go by it, old ones go on", async () => {
    using folder = scratch();
    const [port, old, next] = [await freePort(), await freePort(), await freePort()];
    using _old = named("old", old);
    using _next = named("next", next);
    const file = folder.file("relay.toml");
    const text = (to: number) => `[[relay]]\nname = "web"\nfrom = "fd:3"\nto = "127.0.0.1:${to}"\n`;
    await using relay = await fromFile(file, text(old), port);
    using stays = new Client(port);
    await stays.hears("old");
    writeFileSync(file, text(next));
    relay.kill("SIGHUP");
    await relay.until(/reloaded: web: fd:3 to/);
    expect(await ask(port, "127.0.0.1")).toBe("next");
    expect(stays.ending).toBeUndefined();
    stays.send("more");
    stays.finish();
    expect(await stays.ends()).toBe("end");

    writeFileSync(file, `${text(old)}max = 0\n`);
    relay.kill("SIGHUP");
    await relay.until(/reload refused, all stays as it was/);
    expect(relay.log).toContain(`${file}:5:7: error: max is 0; expected 1 to 1000000`);
    expect(await ask(port, "127.0.0.1")).toBe("next");
    expect(await relay.stop()).toBe(0);
  });

  test("counts on: limits and balance see the connections that began before", async () => {
    using folder = scratch();
    const [port, one, two] = [await freePort(), await freePort(), await freePort()];
    using first = named("first", one);
    using _second = named("second", two);
    const file = folder.file("relay.toml");
    const text = (more: string) =>
      `[[relay]]\nname = "web"\nfrom = "fd:3"\nto = ["127.0.0.1:${one}", "127.0.0.1:${two}"]\n${more}\n`;
    let reloads = 0;
    const reload = async (more: string) => {
      writeFileSync(file, text(more));
      relay.kill("SIGHUP");
      reloads++;
      await until(
        () => relay.log.split("reloaded:").length > reloads,
        () => relay.log,
      );
    };
    await using relay = await fromFile(file, text(""), port);
    using stays = new Client(port);
    await stays.hears("first");

    await reload('balance = "least-connections"');
    for (let i = 0; i < 3; i++) expect(await ask(port, "127.0.0.1")).toBe("second");

    await reload("per-source = 1");
    expect(await ask(port, "127.0.0.1")).toBe("");
    expect((await ended(relay, 4))[3]).toStartWith("limit (per-source); ");

    relay.kill("SIGUSR1");
    await relay.until(/: web: 5 taken, 1 running, 3 closed, 1 limit$/m);

    await reload("max = 1");
    using waits = new Client(port);
    await relay.until(/pausing: limit of 1 reached/);
    expect({ heard: waits.heard, open: first.open }).toEqual({ heard: "", open: 1 });
    stays.finish();
    await until(
      () => waits.heard !== "",
      () => relay.log,
    );
    expect(await relay.stop()).toBe(0);
  });

  test("takes what had come to a relay that the file has no more", async () => {
    using folder = scratch();
    const [port, front, behind] = [await freePort(), await freePort(), await freePort()];
    const [file, box] = [folder.file("relay.toml"), folder.file("box")];
    using _server = named("served", behind);
    const first = `[[relay]]\nfrom = "fd:3"\nto = "127.0.0.1:${behind}"\n`;
    await using relay = await fromFile(
      file,
      `${first}${first.replace("fd:3", `unix:${box}`)}max = 1\n`,
      port,
    );
    await using server = await ready("socketbox", ["-l", "127.0.0.1", "-p", String(front), "-S", box]);
    using stays = new Client(front);
    await stays.hears("served");
    using waits = new Client(front);
    await relay.until(/pausing: limit of 1/);
    await server.stop(); // it has handed over what it had
    writeFileSync(file, first);
    relay.kill("SIGHUP");
    await relay.until(/reloaded/);
    expect(existsSync(box)).toBe(false);
    stays.finish();
    await waits.hears("served");
    waits.finish();
    expect(await waits.ends()).toBe("end");
    await relay.until(new RegExp(`: unix:${box}: 2 taken, 0 running, 2 closed`));
    expect(await ask(port, "127.0.0.1")).toBe("served");
    expect(await relay.stop()).toBe(0);
  });

  test("without a file says that there is nothing to reload", async () => {
    await using between = await relayed();
    between.relay.kill("SIGHUP");
    await between.relay.until(/there is nothing to reload/);
  });
});

test("SIGUSR1 logs the totals by reason", async () => {
  await using between = await relayed();
  await ask(between.port, "127.0.0.1");
  between.relay.kill("SIGUSR1");
  await between.relay.until(/relay: 1 taken, 0 running, 1 connect-failed/);
});

describe("privileges", () => {
  testWith(root)("are given up on every thread", async () => {
    await using between = await relayed(["--user", "65534"]);
    using _server = named("hi", between.target);
    expect(await ask(between.port, "127.0.0.1")).toBe("hi");
    const { pid } = between.relay;
    expect(new Set(threadStatus(pid, "Uid"))).toEqual(new Set(["65534\t65534\t65534\t65534"]));
    expect(new Set(threadStatus(pid, "CapEff"))).toEqual(new Set(["0000000000000000"]));
    expect(new Set(threadStatus(pid, "NoNewPrivs"))).toEqual(new Set(["1"]));
    expect(new Set(threadStatus(pid, "Seccomp"))).toEqual(new Set(["2"]));
  });

  testWith(root)("but for CAP_NET_ADMIN, on the one thread that binds transparently", async () => {
    await using between = await relayed(["--user", "65534", "--source", "client"]);
    const { pid } = between.relay;
    for (const field of ["CapPrm", "CapEff"]) {
      const sets = threadStatus(pid, field).sort();
      expect(sets.length).toBeGreaterThan(3);
      expect(sets.pop()).toBe("0000000000001000");
      expect(new Set(sets)).toEqual(new Set(["0000000000000000"]));
    }
    for (const field of ["CapInh", "CapAmb"])
      expect(new Set(threadStatus(pid, field))).toEqual(new Set(["0000000000000000"]));
    expect(new Set(threadStatus(pid, "Uid"))).toEqual(new Set(["65534\t65534\t65534\t65534"]));
    expect(new Set(threadStatus(pid, "Seccomp"))).toEqual(new Set(["2"]));
  });
});
