/** Targets with several receivers: real clients, and exact counts of who serves them. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { allServed, RECEIVER_QUEUE, receiver, totals } from "../../faults/kit.ts";
import { pythonOutput } from "../../kit/python.ts";
import { bin, freePort, Running, ready, scratch } from "../../kit/running.ts";
import { load } from "../../kit/tools.ts";
import { receiver as describing, testPython } from "./server.ts";

interface Balanced {
  readonly server: Running;
  readonly port: number;
}

/** A server with one target: its `to` is paths in `folder`, by name. */
async function balanced(
  folder: { file(name: string): string },
  names: readonly string[],
  settings: string,
): Promise<Balanced> {
  const port = await freePort();
  const to = names.map((name) => `unix:${folder.file(name)}`);
  writeFileSync(
    folder.file("c.toml"),
    `[[listen]]\nport = ${port}\n[[route]]\nto = "target:web"\n[target.web]\nto = ${JSON.stringify(to)}\n${settings}\n`,
  );
  return { server: await ready("socketbox", ["-f", folder.file("c.toml")]), port };
}

/** Receivers that answer with their names. */
async function receivers(stack: AsyncDisposableStack, folder: { file(name: string): string }, names: string) {
  for (const name of names) stack.use(await receiver("-b", name, folder.file(name)));
}

/** Clients come, and are all served, until the server says so; how many there were. */
async function trafficUntil(server: Running, port: number, said: RegExp): Promise<number> {
  let count = 0;
  do {
    expect(await load({ port, count: 1000, atATime: 8 })).toMatchObject(allServed(1000));
    count += 1000;
  } while (!said.test(server.log));
  return count;
}

describe("round-robin", () => {
  test("gives each receiver as many as any other", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    await receivers(stack, folder, "abc");
    const { server, port } = await balanced(folder, ["a", "b", "c"], "");
    stack.use(server);
    const outcome = await load({ port, count: 3000, atATime: 16 });
    expect(outcome).toMatchObject({ ...allServed(3000), by: { a: 1000, b: 1000, c: 1000 } });
    expect(await totals(server)).toEqual({ accepted: 3000, delivered: 3000 });
  });

  test("without fallback lets what is a missing receiver's wait for it, and loses none", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    await receivers(stack, folder, "b");
    const { server, port } = await balanced(folder, ["a", "b"], "");
    stack.use(server);
    const clients = load({ port, count: 200, atATime: 200 });
    await server.until(/web \(unix:\S*a\): connect: ENOENT \(.*\); its connections wait/);
    await receivers(stack, folder, "a");
    expect(await clients).toMatchObject({ ...allServed(200), by: { a: 100, b: 100 } });
    await server.until(/web \(unix:\S*a\): reached again/);
    expect(await totals(server)).toEqual({ accepted: 200, delivered: 200 });
  });
});

test("least-waiting passes a receiver by that takes nothing, once its queue is full and one more waits", async () => {
  using folder = scratch();
  await using stack = new AsyncDisposableStack();
  stack.use(await receiver("-n", "0", folder.file("a")));
  await receivers(stack, folder, "b");
  const { server, port } = await balanced(folder, ["a", "b"], 'balance = "least-waiting"');
  stack.use(server);
  const outcome = await load({ port, count: 400, atATime: RECEIVER_QUEUE + 5, options: ["-t", "5"] });
  const { stuck } = outcome;
  expect(outcome).toMatchObject({ served: 400 - stuck, by: { b: 400 - stuck } });
  // Those that come at the same moment are shared out before it is known that its queue is full.
  expect(stuck).toBeWithin(RECEIVER_QUEUE + 1, RECEIVER_QUEUE + 6);
});

testPython("source-hash: a client stays with its receiver, and moves only when that has gone", async () => {
  using folder = scratch();
  await using stack = new AsyncDisposableStack();
  const alive = new Map<string, Running>();
  for (const name of "abcd") alive.set(name, stack.use(await receiver("-b", name, folder.file(name))));
  const settings = 'balance = "source-hash"\nfallback = true';
  const { server, port } = await balanced(folder, [..."abcd"], settings);
  stack.use(server);
  const answers = async () => {
    const script = `
for n in range(64):
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10, source_address=(f"127.0.1.{n + 1}", 0))
    print(read_all(client), end="")`;
    return pythonOutput(script, port);
  };
  const before = await answers();
  expect(await answers()).toBe(before);
  expect(new Set(before)).toEqual(new Set("abcd"));
  await alive.get("b")!.stop();
  const after = await answers();
  for (const [index, name] of [...before].entries()) {
    if (name === "b") expect(after[index]).toMatch(/[acd]/);
    else expect(after[index]).toBe(name);
  }
  await receivers(stack, folder, "b");
  // It is looked for while there is traffic.
  do await answers();
  while (!/web \(unix:\S*b\): reached again/.test(server.log));
  expect(await answers()).toBe(before);
});

describe("fallback", () => {
  test("lets another receiver take what is a missing one's, at once, until that is there", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    await receivers(stack, folder, "bc");
    const { server, port } = await balanced(folder, ["a", "b", "c"], "fallback = true");
    stack.use(server);
    const { by, ...others } = await load({ port, count: 1000, atATime: 8 });
    expect(others).toMatchObject(allServed(1000));
    // Of the first that come at the same moment, all that were the missing one's may go to the same other.
    expect(by.b! - by.c!).toBeWithin(-8, 9);
    expect(by.b! + by.c!).toBe(1000);
    await receivers(stack, folder, "a");
    // It is looked for while there is traffic.
    const more = await trafficUntil(server, port, /web \(unix:\S*a\): reached again/);
    const last = await load({ port, count: 300, atATime: 1 });
    expect(last).toMatchObject({ ...allServed(300), by: { a: 100, b: 100, c: 100 } });
    expect(await totals(server)).toEqual({ accepted: 1300 + more, delivered: 1300 + more });
  });

  test("lets another receiver take what a full one does not", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    stack.use(await receiver("-n", "0", folder.file("a")));
    await receivers(stack, folder, "b");
    const { server, port } = await balanced(folder, ["a", "b"], "fallback = true\nqueue = 100");
    stack.use(server);
    // What lies in the queue of the one that takes nothing is beyond our reach; nothing else is lost, or late.
    const options = ["-l", String(RECEIVER_QUEUE)];
    const outcome = await load({ port, count: 2000, atATime: RECEIVER_QUEUE + 50, options });
    expect(outcome).toMatchObject({ served: 2000 - RECEIVER_QUEUE, stuck: RECEIVER_QUEUE, closed: 0 });
    expect(await totals(server)).toEqual({ accepted: 2000, delivered: 2000 });
  });

  test("moves what waits for a receiver that stands still, or stays away, to the first that is there", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    const { server, port } = await balanced(folder, ["a", "b", "c"], "fallback = true");
    stack.use(server);
    const clients = load({ port, count: 300, atATime: 300 });
    await server.until(/a\): connect: ENOENT[\s\S]*b\): connect: ENOENT[\s\S]*c\): connect: ENOENT/);
    await receivers(stack, folder, "b");
    expect(await clients).toMatchObject({ ...allServed(300), by: { b: 300 } });
    expect(await totals(server)).toEqual({ accepted: 300, delivered: 300 });
  });

  test("loses nothing when its receivers are killed and started in turn under load", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    await receivers(stack, folder, "b");
    const { server, port } = await balanced(folder, ["a", "b"], "fallback = true");
    stack.use(server);
    let ended = false;
    const clients = load({ port, count: 30_000, atATime: 32 }).finally(() => {
      ended = true;
    });
    for (let restarts = 0; !ended || restarts < 4; restarts++) {
      await using polite = await receiver("-b", "a", folder.file("a"));
      await Bun.sleep(30);
      await polite.stop();
    }
    const outcome = await clients;
    expect(outcome).toMatchObject(allServed(30_000));
    expect(outcome.by.a).toBeGreaterThan(0);
    expect(await totals(server)).toEqual({ accepted: 30_000, delivered: 30_000 });
  });
});

test("a template may have several receivers, too", async () => {
  using folder = scratch();
  await using stack = new AsyncDisposableStack();
  const port = await freePort();
  for (const name of "ab") {
    mkdirSync(folder.file(name));
    stack.use(await receiver("-b", name, folder.file(`${name}/${port}`)));
  }
  const to = [..."ab"].map((name) => `unix:${folder.file(`${name}/{port}`)}`);
  writeFileSync(
    folder.file("c.toml"),
    `[[listen]]\nport = ${port}\n[[route]]\nto = "target:web"\n[target.web]\nto = ${JSON.stringify(to)}\nfallback = true\n`,
  );
  const server = stack.use(await ready("socketbox", ["-f", folder.file("c.toml")]));
  expect(await load({ port, count: 400, atATime: 8 })).toMatchObject({
    ...allServed(400),
    by: { a: 200, b: 200 },
  });
  rmSync(folder.file("a"), { recursive: true });
  expect(await load({ port, count: 400, atATime: 8 })).toMatchObject(allServed(400));
  expect(await totals(server)).toEqual({ accepted: 800, delivered: 800 });
});

describe("spread", () => {
  /** Daemons that each bind the same address for themselves, under socketbox-preload. */
  const DAEMON = `
import signal, socket, sys
listening = socket.create_server(("0.0.0.0", int(sys.argv[1])), reuse_port=True)
# As on TCP, who has come and was not accepted is lost: it is told when nobody comes.
signal.signal(signal.SIGTERM, lambda *_: listening.shutdown(socket.SHUT_RD))
print("listening", flush=True)
while True:
    try:
        client, _ = listening.accept()
    except OSError:
        break
    client.sendall(sys.argv[2].encode())
    client.close()`;

  async function daemon(
    folder: { file(name: string): string },
    port: number,
    name: string,
  ): Promise<Running> {
    const words = ["--map", `${port}=${folder.file("r")}`, "--", "python3", "-c", DAEMON, String(port), name];
    const running = new Running([bin("socketbox-preload"), ...words]);
    await running.until(/listening/);
    return running;
  }

  testPython("over daemons that share an address with SO_REUSEPORT, as they come and go", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    const { server, port } = await balanced(folder, ["r"], "spread = true");
    stack.use(server);
    const a = stack.use(await daemon(folder, port, "a"));
    expect(await load({ port, count: 100, atATime: 4 })).toMatchObject({ ...allServed(100), by: { a: 100 } });
    const b = stack.use(await daemon(folder, port, "b"));
    const c = stack.use(await daemon(folder, port, "c"));
    await trafficUntil(server, port, /web: unix:\S*r\.1 joins[\s\S]*web: unix:\S*r\.2 joins/);
    expect(await load({ port, count: 300, atATime: 1 })).toMatchObject({
      ...allServed(300),
      by: { a: 100, b: 100, c: 100 },
    });
    await b.stop();
    await trafficUntil(server, port, /web: unix:\S*r\.1 leaves/);
    // The first process had the path itself; the others go on without it.
    await a.stop();
    expect(await load({ port, count: 50, atATime: 1 })).toMatchObject({ ...allServed(50), by: { c: 50 } });
    // With the last one gone as well, what comes waits for whoever takes the path next.
    await c.stop();
    const late = load({ port, count: 20, atATime: 20 });
    await server.until(/web \(unix:\S*r\): connect: ENOENT/);
    stack.use(await daemon(folder, port, "d"));
    expect(await late).toMatchObject({ ...allServed(20), by: { d: 20 } });
    const { accepted, ...others } = await totals(server);
    expect(others).toEqual({ delivered: accepted! });
  });

  testPython("passes by what a killed sibling left behind", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    const { server, port } = await balanced(folder, ["r"], "spread = true");
    stack.use(server);
    stack.use(await daemon(folder, port, "a"));
    const b = stack.use(await daemon(folder, port, "b"));
    await trafficUntil(server, port, /r\.1 joins/);
    expect(await load({ port, count: 100, atATime: 1 })).toMatchObject({
      ...allServed(100),
      by: { a: 50, b: 50 },
    });
    b.kill("SIGKILL");
    await b.ended();
    expect(await load({ port, count: 500, atATime: 8 })).toMatchObject({ ...allServed(500), by: { a: 500 } });
    const { accepted, ...others } = await totals(server);
    expect(others).toEqual({ delivered: accepted! });
  });

  testPython("goes with templates, and with names in the abstract namespace", async () => {
    using folder = scratch();
    await using stack = new AsyncDisposableStack();
    const port = await freePort();
    const base = `@socketbox-test-${process.pid}-spread`;
    const file = folder.file("c.toml");
    const to = (n: number, receiver: string) =>
      `[[route]]\nlocal = "127.0.0.${n}"\nto = "target:t${n}"\n[target.t${n}]\nto = "${receiver}"\nspread = true\n`;
    const template = `unix:${folder.file("{port}")}`;
    writeFileSync(file, `[[listen]]\nport = ${port}\n${to(1, template)}${to(2, `unix:${base}`)}`);
    stack.use(await receiver("-b", "a", folder.file(String(port))));
    stack.use(await receiver("-b", "b", folder.file(`${port}.7`)));
    stack.use(await describing(`${base}.64`, "@"));
    const server = stack.use(await ready("socketbox", ["-f", file]));
    const at = (n: number) => ["-a", `::ffff:127.0.0.${n}`];
    expect(await load({ port, count: 100, atATime: 1, options: at(1) })).toMatchObject({
      ...allServed(100),
      by: { a: 50, b: 50 },
    });
    expect(await load({ port, count: 100, atATime: 1, options: at(2) })).toMatchObject({
      ...allServed(100),
      by: { "@": 100 },
    });
    expect(await totals(server)).toEqual({ accepted: 200, delivered: 200 });
  });
});
