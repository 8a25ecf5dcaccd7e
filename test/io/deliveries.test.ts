import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { ask, freePort, ready, scratch } from "../kit/running.ts";

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
