/** Several acceptors: how they share what comes, by exact counts of each. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { allServed, receiver, totals } from "../../faults/kit.ts";
import { bin, freePort, Running, ready, scratch } from "../../kit/running.ts";
import { listenTcp } from "../../kit/sockets.ts";
import { load } from "../../kit/tools.ts";

const WORKERS = 4;
const COUNT = 8000;

function configuration(path: string, port: number): string {
  return `[server]\nworkers = ${WORKERS}\n[[listen]]\nport = ${port}\n[[route]]\nto = "unix:${path}"\n`;
}

/** How many each acceptor of a stopped server has accepted, and that it delivered them all. */
function byAcceptor({ log }: Running): number[] {
  return [...log.matchAll(/acceptor \d+: (\d+) accepted(?:, \1 delivered)?\n/g)].map(([, count]) =>
    Number(count),
  );
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

describe("acceptors", () => {
  test("with a listener each share the load within 20 % (SO_REUSEPORT)", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _receiver = await receiver(folder.file("r"));
    writeFileSync(folder.file("c.toml"), configuration(folder.file("r"), port));
    await using server = await ready("socketbox", ["-f", folder.file("c.toml")]);
    expect(await load({ port, count: COUNT, atATime: 64 })).toMatchObject(allServed(COUNT));
    expect(await totals(server)).toEqual({ accepted: COUNT, delivered: COUNT });
    const counts = byAcceptor(server);
    expect(counts).toHaveLength(WORKERS);
    expect(sum(counts)).toBe(COUNT);
    // The kernel chooses by a hash of both ends. 2000 each, a standard deviation of 39: 400 is more than ten of them.
    for (const count of counts)
      expect(Math.abs(count - COUNT / WORKERS)).toBeLessThanOrEqual(0.2 * (COUNT / WORKERS));
  });

  test("with one listener for all, which was inherited, serve every connection once (EPOLLEXCLUSIVE)", async () => {
    using folder = scratch();
    const port = await freePort();
    using inherited = listenTcp(port);
    await using _receiver = await receiver(folder.file("r"));
    writeFileSync(folder.file("c.toml"), configuration(folder.file("r"), port));
    const start = [bin("socketbox"), "-f", folder.file("c.toml"), "-s", "3"];
    await using server = new Running(start, { stdio: [inherited.number] });
    await server.until(/: ready: inherited descriptor 3; .*; 4 acceptors/);
    expect(await load({ port, count: COUNT, atATime: 256 })).toMatchObject(allServed(COUNT));
    // What comes one at a time, too: every one of them wakes an acceptor.
    expect(await load({ port, count: 500, atATime: 1 })).toMatchObject(allServed(500));
    expect(await totals(server)).toEqual({ accepted: COUNT + 500, delivered: COUNT + 500 });
    const counts = byAcceptor(server);
    expect(counts).toHaveLength(WORKERS);
    expect(sum(counts)).toBe(COUNT + 500);
  });

  test("say once what each of them finds out", async () => {
    using folder = scratch();
    const port = await freePort();
    writeFileSync(
      folder.file("c.toml"),
      `[server]\nworkers = ${WORKERS}\n[[listen]]\nport = ${port}\n[[route]]\nto = "target:t"\n` +
        `[target.t]\nto = "unix:${folder.file("r")}"\nspread = true\n`,
    );
    await using server = await ready("socketbox", ["-f", folder.file("c.toml")]);
    const crowd = () => load({ port, count: 200, atATime: 200 });
    const waiting = crowd();
    await server.until(/connect: ENOENT/);
    await Bun.sleep(300);
    await using first = await receiver(folder.file("r"));
    expect(await waiting).toMatchObject(allServed(200));
    await using second = await receiver(folder.file("r.1"));
    for (let times = 0; times < 4; times++) {
      expect(await crowd()).toMatchObject(allServed(200));
      await Bun.sleep(100);
    }
    await server.until(/reached again[\s\S]*r\.1 joins/);
    expect(server.log.match(/its connections wait/g)).toHaveLength(1);
    expect(server.log.match(/reached again/g)).toHaveLength(1);
    expect(server.log.match(/r\.1 joins/g)).toHaveLength(1);
    await Promise.all([first.stop(), second.stop()]);
    expect(await totals(server)).toEqual({ accepted: 1000, delivered: 1000 });
  });

  test("have one port between them where the kernel chooses it", async () => {
    using folder = scratch();
    await using _receiver = await receiver(folder.file("r"));
    writeFileSync(folder.file("c.toml"), configuration(folder.file("r"), 0));
    await using server = await ready("socketbox", ["-f", folder.file("c.toml")]);
    const [, port] = await server.until(/: ready: \[::\]:(\d+);/);
    expect(await load({ port: Number(port), count: 400, atATime: 16 })).toMatchObject(allServed(400));
    expect(await totals(server)).toEqual({ accepted: 400, delivered: 400 });
    // A hash that gives one of four none of 400 would be one in 10^49.
    for (const count of byAcceptor(server)) expect(count).toBeGreaterThan(0);
  });
});
