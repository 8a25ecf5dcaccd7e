/** A server that is reloaded or replaced under load, in each of the ways there are: nobody is lost, reset or refused. */
import { describe, expect, test } from "bun:test";
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { FakeManager, passing } from "../kit/passed.ts";
import { freePort, type Running, ready, scratch } from "../kit/running.ts";
import { listenTcp } from "../kit/sockets.ts";
import { load, type Outcome } from "../kit/tools.ts";
import { allServed, receiver, totals } from "./kit.ts";

const COUNT = 10_000;

const listen = (name: string, port: number) =>
  `[[listen]]\nname = "${name}"\naddress = "127.0.0.1"\nport = ${port}\n`;
const route = (path: string) => `[[route]]\nto = "unix:${path}"\n`;

interface Clients {
  readonly outcome: Promise<Outcome>;
  ended: boolean;
}

function clientsOf(port: number, count = COUNT): Clients {
  const clients: Clients = { ended: false, outcome: load({ port, count, atATime: 64 }) };
  void clients.outcome.finally(() => {
    clients.ended = true;
  });
  return clients;
}

/** Restarts while clients come, up to some times. Returns what all servers together say that they did. */
async function restarting(start: () => Running, clients: Clients): Promise<Record<string, number>> {
  const sum: Record<string, number> = {};
  for (let times = 1; times <= 5 || !clients.ended; times++) {
    await using server = start();
    await server.until(/: ready: /);
    if (times < 15) await Bun.sleep(50);
    else await clients.outcome;
    for (const [name, count] of Object.entries(await totals(server))) sum[name] = (sum[name] ?? 0) + count;
  }
  return sum;
}

describe("under load", () => {
  test("two hundred reloads lose no connection", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    await using _a = await receiver("-b", "a", folder.file("a"));
    await using _b = await receiver("-b", "b", folder.file("b"));
    const file = folder.file("c.toml");
    const write = (text: string) => {
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
    };
    write(listen("web", port) + route(folder.file("a")));
    await using server = await ready("socketbox", ["-f", file]);
    const clients = clientsOf(port, 40_000);
    for (let reloads = 0; reloads < 200 || !clients.ended; reloads++) {
      const second = reloads % 3 === 0 ? listen("extra", other) : "";
      write(listen("web", port) + second + route(folder.file(reloads % 2 ? "a" : "b")));
      const before = server.log.length;
      server.kill("SIGHUP");
      while (!/: reloaded: .*\n/.test(server.log.slice(before))) await Bun.sleep(2);
    }
    const outcome = await clients.outcome;
    expect(outcome).toMatchObject(allServed(40_000));
    expect(outcome.by.a).toBeGreaterThan(0);
    expect(outcome.by.b).toBeGreaterThan(0);
    expect(await totals(server)).toEqual({ accepted: 40_000, delivered: 40_000 });
  });

  for (const [way, args, name] of [
    ["with an inherited listener (-s)", ["-s", "3"], ""],
    ["with a listener that a service manager keeps (LISTEN_FDS)", [], "web"],
  ] as const) {
    test(`restarts ${way} lose no connection`, async () => {
      using folder = scratch();
      const port = await freePort();
      using socket = listenTcp(port);
      await using _receiver = await receiver(folder.file("r"));
      const words = [...args, "-S", folder.file("r")];
      const clients = clientsOf(port);
      const sum = await restarting(() => passing("socketbox", words, [[name, socket.number]]), clients);
      expect(await clients.outcome).toMatchObject(allServed(COUNT));
      expect(sum).toEqual({ accepted: COUNT, delivered: COUNT });
    });
  }

  test("restarts with descriptors kept by a service manager (FDSTORE) lose no connection", async () => {
    using folder = scratch();
    using manager = new FakeManager(folder.file("notify"));
    const port = await freePort();
    await using _receiver = await receiver(folder.file("r"));
    const file = folder.file("c.toml");
    writeFileSync(file, `[server]\nworkers = 2\n${listen("web", port)}${route(folder.file("r"))}`);
    const start = () => passing("socketbox", ["-f", file], manager.stored, { env: manager.env });
    await using first = start();
    await first.until(/: ready: /);
    while (manager.stored.length < 2) await Bun.sleep(2);
    expect(manager.stored.map(([name]) => name)).toEqual(Array(2).fill("socketbox.listener.web"));
    const clients = clientsOf(port);
    const { accepted = 0, delivered = 0 } = await totals(first);
    const sum = await restarting(start, clients);
    expect(await clients.outcome).toMatchObject(allServed(COUNT));
    expect({ accepted: accepted + sum.accepted!, delivered: delivered + sum.delivered! }).toEqual({
      accepted: COUNT,
      delivered: COUNT,
    });
  });

  for (const workers of [1, 2]) {
    test(`takeovers lose no connection, many times in a row (${workers} acceptors)`, async () => {
      using folder = scratch();
      const port = await freePort();
      await using _receiver = await receiver(folder.file("r"));
      const file = folder.file("c.toml");
      writeFileSync(file, `[server]\nworkers = ${workers}\n${listen("web", port)}${route(folder.file("r"))}`);
      const start = () => ready("socketbox", ["-f", file, "--takeover", folder.file("takeover")]);
      let server = await start();
      const clients = clientsOf(port, 30_000);
      for (let times = 0; times < 8 || !clients.ended; times++) {
        const next = await start();
        expect(await server.ended()).toBe(0);
        expect(server.log).toContain("handed over\n");
        server = next;
      }
      expect(await clients.outcome).toMatchObject(allServed(30_000));
      expect(await server.stop()).toBe(0);
      expect(existsSync(folder.file("takeover"))).toBe(false);
    });
  }
});
