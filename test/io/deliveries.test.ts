import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { freePort, ready, scratch } from "../kit/running.ts";

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
