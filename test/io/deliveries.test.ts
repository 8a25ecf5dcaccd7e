import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { allServed, receiver, totals } from "../faults/kit.ts";
import { ask, bin, freePort, Running, ready, scratch } from "../kit/running.ts";
import { load } from "../kit/tools.ts";

test("however many ways a template leads, no connection on them is closed without a word", async () => {
  using folder = scratch();
  const file = folder.file("a.toml");
  const port = await freePort();
  writeFileSync(file, `[[listen]]\nport = ${port}\n[[route]]\nto = "unix:${folder.file("{local}")}"\n`);
  await using server = await ready("socketbox", ["-f", file]);
  const hosts = Array.from({ length: 800 }, (_, i) => `127.0.${i >> 7}.${(i & 127) + 1}`);
  const silent = { data() {} };
  const clients = await Promise.all(hosts.map((hostname) => Bun.connect({ hostname, port, socket: silent })));
  // The second gives up what the first would have waited for; some may still be in the backlog.
  server.kill("SIGTERM");
  server.kill("SIGINT");
  expect(await server.ended()).toBe(0);
  expect(server.log.split("\n").at(-2)).toMatch(/ stopped: (\d+) accepted, \1 shutdown$/);
  for (const client of clients) client.end();
});

test("however many paths a template leads to, what is lost on them is summed up, not written line by line", async () => {
  using folder = scratch();
  const file = folder.file("a.toml");
  const port = await freePort();
  const target = `[target.each]\nto = "unix:${folder.file("none/{local}")}"\nwait = 0\n`;
  writeFileSync(file, `[[listen]]\nport = ${port}\n[[route]]\nto = "target:each"\n${target}`);
  await using server = await ready("socketbox", ["-f", file]);
  const hosts = Array.from({ length: 300 }, (_, i) => `127.0.${i >> 7}.${(i & 127) + 1}`);
  await Promise.all(hosts.map((host) => ask(port, host).catch(() => {})));
  expect(await server.stop()).toBe(0);
  expect(server.log).toMatch(/ stopped: 300 accepted, 300 no-receiver\n$/);
  const lines = server.log.match(/connection given up: no-receiver \(to each\)/g)?.length ?? 0;
  const sums = [...server.log.matchAll(/(\d+) more connections given up: no-receiver \(to each\)/g)];
  expect(sums.length).toBeGreaterThan(0);
  expect(sums.reduce((sum, [, count]) => sum + Number(count), lines)).toBe(300);
});

test("however many connections a dead target may let wait, others find room, and accepting does not pause", async () => {
  using folder = scratch();
  const port = await freePort();
  const targets = [1, 2, 3].map(
    (n) =>
      `[[route]]\nlocal = "127.0.0.${n}"\nto = "target:t${n}"\n` +
      `[target.t${n}]\nto = "unix:${folder.file(`r${n}`)}"\nqueue = 100000\nwait = 60\n`,
  );
  writeFileSync(folder.file("c.toml"), `[[listen]]\nport = ${port}\n${targets.join("")}`);
  await using _receiver = await receiver(folder.file("r3"));
  // 1024 descriptors, 256 of them kept free: 384 connections may wait.
  const start = [
    "sh",
    "-c",
    'ulimit -n 1024; exec "$@"',
    "sh",
    bin("socketbox"),
    "-f",
    folder.file("c.toml"),
  ];
  await using server = new Running(start);
  await server.until(/: ready: /);
  const to = (n: number) => ["-a", `::ffff:127.0.0.${n}`, "-t", "60"];
  // Two dead targets; the first may have half of all, the second half of what is left.
  const waiting = [load({ port, count: 400, atATime: 400, options: to(1) })];
  await server.until(/queue-full \(to t1\)/);
  waiting.push(load({ port, count: 400, atATime: 400, options: to(2) }));
  await server.until(/queue-full \(to t2\)/);
  expect(await load({ port, count: 2000, atATime: 40, options: to(3) })).toMatchObject(allServed(2000));
  expect(server.log).not.toContain("accepting pauses");
  server.kill("SIGTERM");
  server.kill("SIGINT");
  await Promise.all(waiting);
  expect(await totals(server)).toEqual({
    accepted: 2800,
    delivered: 2000,
    "queue-full": 400 - 192 + 400 - 96,
    shutdown: 192 + 96,
  });
});

test("the queue of a template bounds what waits on all its paths together, and half of it what waits on one", async () => {
  using folder = scratch();
  const port = await freePort();
  writeFileSync(
    folder.file("c.toml"),
    `[[listen]]\nport = ${port}\n[[route]]\nto = "target:t"\n` +
      `[target.t]\nto = "unix:${folder.file("{local}")}"\nqueue = 100\nwait = 60\n`,
  );
  await using server = await ready("socketbox", ["-f", folder.file("c.toml")]);
  let closed = 0;
  const client = (host: number) =>
    ask(port, `127.0.0.${host}`)
      .catch(() => "reset")
      .finally(() => closed++);
  const waiting = Array.from({ length: 80 }, () => client(1));
  while (closed < 30) await Bun.sleep(5);
  // One each on 70 other paths: 50 of them find room.
  waiting.push(...Array.from({ length: 70 }, (_, n) => client(n + 2)));
  while (closed < 50) await Bun.sleep(5);
  server.kill("SIGTERM");
  server.kill("SIGINT");
  await Promise.all(waiting);
  expect(await totals(server)).toEqual({ accepted: 150, "queue-full": 30 + 20, shutdown: 100 });
});
