/** The server as a service: what it is passed, what it says, and what is kept for it over a restart. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { SOCK } from "../../src/io/socket.ts";
import { native } from "../../src/native/library.ts";
import { receiver } from "../faults/kit.ts";
import { FakeManager, type Passed, passing } from "../kit/passed.ts";
import { root, testWith } from "../kit/require.ts";
import { acceptorThread, ask, freePort, must, Running, ready, scratch } from "../kit/running.ts";
import { boundUnix, listenTcp } from "../kit/sockets.ts";
import { load, tool } from "../kit/tools.ts";

type Scratch = ReturnType<typeof scratch>;

function write(folder: Scratch, text: string): string {
  const file = folder.file("c.toml");
  writeFileSync(file, text);
  return file;
}

/** A socket in the file system that nobody has open any more. */
function left(path: string): string {
  boundUnix(path, SOCK.datagram).close();
  return path;
}

const listen = (name: string, port: number) => `[[listen]]\nname = "${name}"\nport = ${port}\n`;
const route = (to: string, more = "") => `[[route]]\n${more}to = "${to}"\n`;

describe("passed sockets", () => {
  test("become the listeners of their names, wherever a unit has bound them", async () => {
    using folder = scratch();
    const [one, two] = [await freePort(), await freePort()];
    using web = listenTcp(one);
    using mail = listenTcp(two);
    await using _a = await receiver("-b", "a", folder.file("a"));
    await using _b = await receiver("-b", "b", folder.file("b"));
    const file = write(
      folder,
      listen("mail", 25) +
        listen("web", 80) +
        route(`unix:${folder.file("a")}`, 'listener = "web"\n') +
        route(`unix:${folder.file("b")}`, 'listener = "mail"\n'),
    );
    const passed: Passed[] = [
      ["web", web.number],
      ["mail", mail.number],
    ];
    await using server = passing("socketbox", ["-f", file], passed);
    await server.until(/: ready: /);
    expect(await ask(one, "127.0.0.1")).toBe("a");
    expect(await ask(two, "127.0.0.1")).toBe("b");
    // A reload leaves them alone.
    server.kill("SIGHUP");
    await server.until(/reloaded: nothing changed/);
    expect(await ask(two, "127.0.0.1")).toBe("b");
  });

  test("are the listeners where nobody says where to listen", async () => {
    using folder = scratch();
    const port = await freePort();
    using socket = listenTcp(port);
    await using _k = await receiver(folder.file("k"));
    const args = ["-S", folder.file("k")];
    await using server = passing("socketbox", args, [["socketbox.socket", socket.number]]);
    await server.until(new RegExp(`: ready: \\[::\\]:${port}; `));
    expect(await ask(port, "127.0.0.1")).toBe("k");
  });

  test("of a name that no listener has are refused", async () => {
    using folder = scratch();
    using socket = listenTcp(await freePort());
    using other = listenTcp(await freePort());
    const file = write(folder, listen("web", 80) + listen("ssh", 22) + route("deny"));
    const passed: Passed[] = [
      ["web", socket.number],
      ["shh", other.number],
    ];
    // The second listener has to be bound, which is not what this is about.
    writeFileSync(file, readFileSync(file, "utf8").replace("port = 22", `port = ${await freePort()}`));
    await using server = passing("socketbox", ["-f", file], passed);
    expect(await server.ended()).toBe(1);
    expect(server.log).toContain(
      "a socket was passed by the name shh; expected one of the listeners' names: web, ssh",
    );
  });

  test("meant for another process are left alone", async () => {
    using folder = scratch();
    using socket = listenTcp(await freePort());
    const port = await freePort();
    await using _k = await receiver(folder.file("k"));
    const options = { env: { LISTEN_PID: "1", LISTEN_FDS: "1" }, stdio: [socket.number] };
    await using _server = await ready("socketbox", ["-p", String(port), "-S", folder.file("k")], options);
    expect(await ask(port, "127.0.0.1")).toBe("k");
  });

  test("may be a registry's, and clients wait there over a restart", async () => {
    using folder = scratch();
    const port = await freePort();
    using socket = boundUnix(folder.file("r"), SOCK.seqpacket);
    native.sb_listen(socket.number, 8);
    const file = write(
      folder,
      `${listen("web", port) + route("slot:1")}[[registry]]\npath = "${folder.file("r")}"\n` +
        `[[registry.allow]]\nslot = 1\n`,
    );
    await using waits = new Running([
      ...["sh", "-c", 'exec "$@"', "sh"],
      ...[`${import.meta.dir}/../../bin/socketbox-inetd-p`, folder.file("r"), "1", "/bin/echo", "x"],
    ]);
    await using _server = passing("socketbox", ["-f", file], [["registry", socket.number]]);
    await waits.until(/: ready: /);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
  });
});

describe("the manager", () => {
  test("hears when the server is ready, reloads, and stops", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    const port = await freePort();
    const file = write(folder, listen("web", port) + route("deny"));
    await using server = passing("socketbox", ["-f", file], [], { env: manager.env });
    expect(await manager.until(/^READY=1$/m)).toMatch(/^STATUS=\[::\]:\d+; 0 targets$/m);
    server.kill("SIGHUP");
    const reloading = await manager.until(/^RELOADING=1$/m);
    const micros = Number(/^MONOTONIC_USEC=(\d+)$/m.exec(reloading)?.[1]);
    // Python reads the same clock; ours was read before.
    const now = Number(await must(["python3", "-c", "import time; print(time.monotonic_ns() // 1000)"]));
    expect(micros).toBeLessThanOrEqual(now);
    expect(micros).toBeGreaterThan(now - 60e6);
    await server.until(/reloaded/);
    while (manager.read().filter(({ text }) => text.startsWith("READY=1")).length < 2) await Bun.sleep(2);
    await server.stop();
    expect(await manager.until(/^STOPPING=1$/m)).toContain("STATUS=");
  });

  test("is found in the abstract namespace too, and may be missing", async () => {
    using folder = scratch();
    using manager = new FakeManager(`@socketbox-test-${process.pid}`);
    const port = await freePort();
    const file = write(folder, listen("web", port) + route("deny"));
    await using _server = passing("socketbox", ["-f", file], [], { env: manager.env });
    await manager.until(/^READY=1$/m);
  });

  test.each([
    ["nobody has bound", "ENOENT (no such file, or folder)", (folder: Scratch) => folder.file("none")],
    ["nobody serves", "ECONNREFUSED (nobody is there)", (folder: Scratch) => left(folder.file("left"))],
    ["is a file", "ECONNREFUSED (nobody is there)", (folder: Scratch) => write(folder, "")],
    ["is of another kind", "EPROTOTYPE (another kind of socket)", (folder: Scratch) => folder.file("stream")],
    ["is too long", "ENAMETOOLONG (name too long)", () => `/${"a".repeat(200)}`],
    ["is of another family", "EAFNOSUPPORT", () => "vsock:2:1234"],
  ])("is done without where its socket %s, and that is said", async (_, why, at) => {
    using folder = scratch();
    using _stream = boundUnix(folder.file("stream"), SOCK.stream);
    const path = at(folder);
    const port = await freePort();
    await using _k = await receiver(folder.file("k"));
    const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: "100000" };
    await using server = await ready("socketbox", ["-p", String(port), "-S", folder.file("k")], { env });
    expect(server.log).toContain(`: notify ${path}: ${why}; going on without a service manager\n`);
    expect(await ask(port, "127.0.0.1")).toBe("k");
    expect(await server.stop()).toBe(0);
    expect(server.log.match(/notify/g)).toHaveLength(1);
  });

  test("is done without by the receiver and the relay too", async () => {
    using folder = scratch();
    const env = { NOTIFY_SOCKET: folder.file("none") };
    const complaint = `: notify ${folder.file("none")}: ENOENT (no such file, or folder); going on without`;
    await using inetd = await ready("socketbox-inetd", [folder.file("i"), "/bin/true"], { env });
    await using relay = await ready("socketbox-relay", ["-s", folder.file("s"), "-p", "1"], { env });
    for (const { log } of [inetd, relay]) expect(log).toContain(complaint);
  });

  test("gets signs of life while every acceptor lives, and none while one hangs", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    const port = await freePort();
    const file = write(folder, `[server]\nworkers = 2\n${listen("web", port)}${route("deny")}`);
    const env = { ...manager.env, WATCHDOG_USEC: "400000" };
    await using server = passing("socketbox", ["-f", file], [], { env });
    await manager.until(/^WATCHDOG=1$/m);
    const signs = () => manager.read().filter(({ text }) => text === "WATCHDOG=1").length;
    for (const before = signs(); signs() < before + 3; ) await Bun.sleep(20);
    // One of the threads that wait in epoll_wait, which in this helper only acceptors and the lookout do.
    await using frozen = await freezeAcceptor(server);
    const start = signs();
    await Bun.sleep(1000); // ten looks: at most one may still have been under way
    expect(signs() - start).toBeLessThanOrEqual(1);
    frozen.kill("SIGTERM");
    for (const before = signs(); signs() < before + 3; ) await Bun.sleep(20);
  });

  test("keeps a listener whose port the kernel has chosen, with its port, over restarts and reloads", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    await using _k = await receiver(folder.file("k"));
    const text = `[server]\nworkers = 2\n${listen("web", 0)}${route(`unix:${folder.file("k")}`)}`;
    const file = write(folder, text);
    const start = () => passing("socketbox", ["-f", file], manager.stored, { env: manager.env });
    const first = start();
    const [, port] = await first.until(/: ready: \[::\]:(\d+)/);
    while (manager.stored.length < 2) await Bun.sleep(2);
    await first.stop();
    await using second = start();
    await second.until(new RegExp(`: ready: \\[::\\]:${port}; `));
    second.kill("SIGHUP");
    await second.until(/reloaded: nothing changed/);
    for (let n = 1; n <= 20; n++) expect(await ask(Number(port), `127.0.0.${n}`)).toBe("k");
  });

  test("keeps registries and registrations: a receiver outlives the server that it registered with", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    const port = await freePort();
    const file = write(
      folder,
      `${listen("web", port) + route("slot:1")}[[registry]]\npath = "${folder.file("r")}"\n` +
        `[[registry.allow]]\nslot = 1\n`,
    );
    const start = () => passing("socketbox", ["-f", file], manager.stored, { env: manager.env });
    const first = start();
    await first.until(/: ready: /);
    await using holder = await ready("socketbox-inetd-p", [folder.file("r"), "1", "/bin/echo", "x"]);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
    // Even one that was killed: nothing of this hangs on a last word.
    first.kill("SIGKILL");
    await first.ended();
    const asked = ask(port, "127.0.0.1");
    await using second = start();
    expect(await asked).toBe("x\n");
    expect(existsSync(folder.file("r"))).toBe(true);
    await holder.stop();
    await second.until(/slot 1: has gone/);
    await using _next = await ready("socketbox-inetd-p", [folder.file("r"), "1", "/bin/echo", "y"]);
    expect(await ask(port, "127.0.0.1")).toBe("y\n");
  });

  test("keeps for a slot who has it now, and nobody once it is free", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    const port = await freePort();
    const file = write(
      folder,
      `${listen("web", port) + route("slot:1")}[[registry]]\npath = "${folder.file("r")}"\n` +
        `[[registry.allow]]\nslot = 1\ntakeover = true\n`,
    );
    const start = () => passing("socketbox", ["-f", file], manager.stored, { env: manager.env });
    const slots = () => manager.stored.filter(([name]) => name.startsWith("socketbox.slot.")).length;
    await using first = start();
    await first.until(/: ready: /);
    const holder = (word: string) => ready("socketbox-inetd-p", [folder.file("r"), "1", "/bin/echo", word]);
    await using _old = await holder("old");
    await using young = await holder("young");
    expect(slots()).toBe(1);
    first.kill("SIGKILL");
    await first.ended();
    await using second = start();
    await second.until(/: ready: /);
    expect(await ask(port, "127.0.0.1")).toBe("young\n");
    await young.stop();
    await second.until(/slot 1: has gone/);
    while (slots() > 0) await Bun.sleep(5);
  });

  test("lets go of a listener that the configuration no longer has", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    const [port, other] = [await freePort(), await freePort()];
    await using _k = await receiver(folder.file("k"));
    const to = route(`unix:${folder.file("k")}`);
    const file = write(folder, listen("web", port) + listen("more", other) + to);
    const start = () => passing("socketbox", ["-f", file], manager.stored, { env: manager.env });
    const first = start();
    await first.until(/: ready: /);
    write(folder, listen("web", port) + to);
    first.kill("SIGHUP");
    await first.until(/reloaded: -listener more/);
    await manager.until(/^FDSTOREREMOVE=1\nFDNAME=socketbox.listener.more$/m);
    await first.stop();
    write(folder, listen("web", other) + to); // another place for the same name
    await using second = start();
    await second.until(/: ready: /);
    expect(await ask(other, "127.0.0.1")).toBe("k");
    while (manager.stored.length !== 1) await Bun.sleep(5);
    await expect(ask(port, "127.0.0.1")).rejects.toThrow();
  });
});

test("a listener that a reload removes resets nobody, although the manager keeps it for a moment longer", async () => {
  using folder = scratch();
  using manager = new FakeManager(folder.file("notify"));
  const [port, other] = [await freePort(), await freePort()];
  await using _k = await receiver(folder.file("k"));
  const one = listen("web", port) + route(`unix:${folder.file("k")}`);
  const both = listen("more", other) + one;
  const file = write(folder, both);
  await using server = passing("socketbox", ["-f", file], [], { env: manager.env });
  await server.until(/: ready: /);
  for (let round = 0; round < 5; round++) {
    const running = load({ port: other, count: 3000, atATime: 64 });
    await Bun.sleep(20);
    for (const text of [one, both]) {
      const before = server.log.length;
      write(folder, text);
      server.kill("SIGHUP");
      while (!/: reloaded: .*\n/.test(server.log.slice(before))) await Bun.sleep(2);
      if (text === both) continue;
      while (manager.stored.length > 1) await Bun.sleep(2);
      const { served, refused, ...others } = await running;
      expect({ sum: served + refused, ...others }).toMatchObject({
        sum: 3000,
        closed: 0,
        reset: 0,
        stuck: 0,
      });
    }
    while (manager.stored.length < 2) await Bun.sleep(2);
  }
});

testWith(root)("SO_REUSEPORT alone is warned of where it would reset connections", async () => {
  using folder = scratch();
  const port = await freePort();
  const file = write(folder, `${listen("web", port)}reuse-port = true\n${route("deny")}`);
  await using server = await ready("socketbox", ["-f", file]);
  const migrates = readFileSync("/proc/sys/net/ipv4/tcp_migrate_req", "utf8").trim() === "1";
  if (migrates) expect(server.log).not.toContain("tcp_migrate_req");
  else expect(server.log).toContain("net.ipv4.tcp_migrate_req");
});

/** Stops one acceptor's thread, until the answer ends. */
async function freezeAcceptor(server: Running): Promise<Running> {
  const frozen = new Running([tool("test/kit/tracer.c"), "freeze", acceptorThread(server.pid)]);
  await frozen.until(/frozen/);
  return frozen;
}
