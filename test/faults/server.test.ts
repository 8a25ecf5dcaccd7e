/** A server short of descriptors, and what befalls connections while they wait in it. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Namespace } from "../kit/namespace.ts";
import { program, root, testWith } from "../kit/require.ts";
import { acceptorThread, bin, freePort, must, Running, ready, scratch, settles } from "../kit/running.ts";
import { connected } from "../kit/sockets.ts";
import { load, tool } from "../kit/tools.ts";
import { receiver as describing, seenBy } from "../programs/serve/server.ts";
import { allServed, RECEIVER_QUEUE, receiver, serverTo, totals } from "./kit.ts";

describe("a server without a free descriptor", () => {
  test("leaves clients in the backlog, takes none only to close it, and goes on", async () => {
    using folder = scratch();
    await using slow = await receiver(folder.file("r"));
    const port = await freePort();
    const start = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", bin("socketbox"), "-p", String(port)];
    await using server = new Running([...start, "-l", "::ffff:127.0.0.1", "-S", folder.file("r")]);
    await server.until(/: ready: /);
    slow.kill("SIGSTOP");
    const clients = load({ port, count: 1000, atATime: 500 });
    await server.until(/accepting pauses/);
    slow.kill("SIGCONT");
    expect(await clients).toMatchObject(allServed(1000));
    await server.until(/accepting goes on/);
    expect(await totals(server)).toEqual({ accepted: 1000, delivered: 1000 });
  });

  test("says so once, however often it pauses until there is room for all", async () => {
    using folder = scratch();
    await using _slow = await receiver("-d", "1000", folder.file("r"));
    const port = await freePort();
    const start = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", bin("socketbox"), "-p", String(port)];
    await using server = new Running([...start, "-l", "::ffff:127.0.0.1", "-S", folder.file("r")]);
    await server.until(/: ready: /);
    // More than its queue takes, and the table.
    expect(await load({ port, count: 1000, atATime: RECEIVER_QUEUE + 200 })).toMatchObject(allServed(1000));
    await server.until(/accepting goes on/);
    expect(server.log.match(/accepting/g)).toHaveLength(2);
  });

  test("that is told to stop lets them be accepted as there is room, and gives none up", async () => {
    using folder = scratch();
    const port = await freePort();
    const start = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", bin("socketbox"), "-p", String(port)];
    await using server = new Running([...start, "-l", "::ffff:127.0.0.1", "-S", folder.file("r")]);
    await server.until(/: ready: /);
    const clients = load({ port, count: 100, atATime: 100 });
    await server.until(/accepting pauses/);
    await settles(() => connected(port), 100);
    server.kill("SIGTERM");
    await Bun.sleep(200);
    await using _late = await receiver(folder.file("r"));
    expect(await clients).toMatchObject(allServed(100));
    expect(await totals(server)).toEqual({ accepted: 100, delivered: 100 });
  });

  // The first that is to be watched, and, after the pause, the first of all.
  testWith(program("strace"))("short of room in epoll for a listener pauses, and goes on", async () => {
    using folder = scratch();
    await using _receiver = await receiver(folder.file("r"));
    const port = await freePort();
    const file = folder.file("c.toml");
    const text = `[[route]]\nto = "unix:${folder.file("r")}"\n[[listen]]\nname = "a"\nport = ${port}\n`;
    writeFileSync(file, text);
    await using server = await ready("socketbox", ["-f", file]);
    expect(await load({ port, count: 1, atATime: 1 })).toMatchObject(allServed(1));
    const inject = ["-e", "trace=epoll_ctl", "-e", "inject=epoll_ctl:error=ENOSPC:when=1..3+2"];
    await using tracer = new Running(["strace", ...inject, "-p", acceptorThread(server.pid)]);
    await tracer.until(/attached/);
    const other = await freePort();
    writeFileSync(file, `${text}[[listen]]\nname = "b"\nport = ${other}\n`);
    server.kill("SIGHUP");
    await server.until(/accepting pauses: ENOSPC/);
    expect(await load({ port: other, count: 10, atATime: 10 })).toMatchObject(allServed(10));
    await server.until(/accepting goes on/);
    expect(await load({ port, count: 10, atATime: 10 })).toMatchObject(allServed(10));
    expect(await totals(server)).toEqual({ accepted: 21, delivered: 21 });
  });

  test("still reaches a receiver that comes late", async () => {
    using folder = scratch();
    const port = await freePort();
    const start = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", bin("socketbox"), "-p", String(port)];
    await using server = new Running([...start, "-l", "::ffff:127.0.0.1", "-S", folder.file("r")]);
    await server.until(/: ready: /);
    const clients = load({ port, count: 1000, atATime: 500 });
    await server.until(/accepting pauses/);
    await using _late = await receiver(folder.file("r"));
    expect(await clients).toMatchObject(allServed(1000));
    expect(await totals(server)).toEqual({ accepted: 1000, delivered: 1000 });
  });

  testWith(program("prlimit"))("survives it when the limit falls under what is open", async () => {
    using folder = scratch();
    await using _receiver = await receiver(folder.file("r"));
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    expect(await load({ port, count: 10, atATime: 1 })).toMatchObject(allServed(10));
    await must(["prlimit", "--pid", String(server.pid), "--nofile=3:4096"]);
    const clients = load({ port, count: 300, atATime: 100 });
    await server.until(/accepting pauses: EMFILE/);
    await must(["prlimit", "--pid", String(server.pid), "--nofile=4096:4096"]);
    expect(await clients).toMatchObject(allServed(300));
    expect(await totals(server)).toEqual({ accepted: 310, delivered: 310 });
  });

  testWith(
    root,
    program("nsenter"),
    program("setpriv"),
  )(
    "or with as many in flight as an unprivileged sender may have waits, and loses none (ETOOMANYREFS)",
    async () => {
      using folder = scratch();
      await using network = await Namespace.local();
      await must(network.command("sh", "-c", "echo 512 >/proc/sys/net/unix/max_dgram_qlen"));
      await using slow = network.start([tool("test/kit/receiver.c"), folder.file("r")]);
      await slow.until(/ready/);
      await must(["chmod", "-R", "a+rwx", folder.path]);
      // The kernel counts what all processes of a user have in flight: this user has no other.
      const unprivileged = ["setpriv", "--reuid=64999", "--regid=64999", "--clear-groups"];
      const limited = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", ...unprivileged, "--"];
      const serve = [bin("socketbox"), "-l", "::ffff:127.0.0.1", "-p", "4000", "-S", folder.file("r")];
      await using server = network.start([...limited, ...serve], { env: { HOME: folder.path } });
      await server.until(/: ready: /);
      slow.kill("SIGSTOP");
      const { promise: clients, resolve } = Promise.withResolvers<string>();
      await using loading = network.start([tool("test/kit/load.c"), "4000", "400", "400"]);
      loading.until(/}\n/).then(() => resolve(loading.log));
      await server.until(/send: ETOOMANYREFS/);
      slow.kill("SIGCONT");
      expect(JSON.parse(await clients)).toMatchObject(allServed(400));
      expect(await totals(server)).toEqual({ accepted: 400, delivered: 400 });
    },
  );
});

describe("while connections wait", () => {
  test("one dead target among ten busy ones delays none of them", async () => {
    using folder = scratch();
    const port = await freePort();
    const numbers = Array.from({ length: 10 }, (_, index) => index + 1);
    const routes = [...numbers, 11].map(
      (n) => `[[route]]\nlocal = "127.0.0.${n}"\nto = "unix:${folder.file(`r${n}`)}"\n`,
    );
    writeFileSync(folder.file("c.toml"), `[[listen]]\nport = ${port}\n${routes.join("")}`);
    await using receivers = new AsyncDisposableStack();
    for (const n of numbers) receivers.use(await receiver(folder.file(`r${n}`)));
    await using server = await ready("socketbox", ["-f", folder.file("c.toml")]);
    const to = (n: number) => ["-a", `::ffff:127.0.0.${n}`];
    let ended = false;
    const dead = load({ port, count: 200, atATime: 200, options: to(11) }).finally(() => {
      ended = true;
    });
    await server.until(/r11: connect: ENOENT/);
    const busy = numbers.map((n) => load({ port, count: 1000, atATime: 16, options: to(n) }));
    for (const outcome of await Promise.all(busy)) expect(outcome).toMatchObject(allServed(1000));
    expect(ended).toBe(false);
    await using _late = await receiver(folder.file("r11"));
    expect(await dead).toMatchObject(allServed(200));
    expect(await totals(server)).toEqual({ accepted: 10_200, delivered: 10_200 });
  });

  test("a client that resets is not delivered, one that has only finished sending is", async () => {
    using folder = scratch();
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const patient = load({ port, count: 40, atATime: 40, options: ["-h"] });
    await server.until(/connect: ENOENT/);
    // Gives up at once, with a reset.
    expect(await load({ port, count: 60, atATime: 60, options: ["-t", "0"] })).toMatchObject({ stuck: 60 });
    await server.until(/client-gone/);
    await using late = await receiver(folder.file("r"));
    expect(await patient).toMatchObject(allServed(40));
    expect(await totals(server)).toEqual({ accepted: 100, delivered: 40, "client-gone": 60 });
    await late.stop();
    expect(late.log).toContain("served 40, without a connection 0");
  });

  testWith(program("python3"))("they go in the order in which they came", async () => {
    using folder = scratch();
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const clients: Bun.Socket[] = [];
    const ports: number[] = [];
    for (let i = 0; i < 100; i++) {
      const client = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => {} } });
      clients.push(client);
      ports.push(client.localPort);
    }
    await using late = await describing(folder.file("r"));
    const seen = await seenBy(late, clients.length);
    expect(seen.map(({ remote: [, port] }) => port)).toEqual(ports);
    for (const client of clients) client.end();
    expect(await totals(server)).toEqual({ accepted: 100, delivered: 100 });
  });
});
