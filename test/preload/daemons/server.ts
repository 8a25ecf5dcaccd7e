/** server.c, built for another machine or another C library, behind the real server. */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { freePort, type Running, ready } from "../../kit/running.ts";
import { askOften, exchange, until } from "../harness.ts";
import { CLIENT, FROM, SERVER } from "./daemon.ts";

/** 200 clients, 20 at a time, half of them from CLIENT: each is answered with its own address. */
export async function serveThrough(path: string, daemon: Running): Promise<void> {
  await until("the daemon listens", () => existsSync(path));
  const port = await freePort();
  await using _server = await ready("socketbox", ["-l", "::", "-p", `${port}`, "-S", path]);
  let turn = 0;
  const ipv4 = { port, host: SERVER, localAddress: CLIENT };
  const answers = await askOften(200, () => exchange(turn++ % 2 ? ipv4 : { port, host: "::1" }, "?\n"));
  expect(answers.filter((answer) => !FROM.test(answer))).toEqual([]);
  expect([...new Set(answers)].sort()).toEqual(["from ::1.", `from ::ffff:${CLIENT}.`]);
  daemon.kill("SIGTERM");
  expect(await daemon.ended()).toBe(0);
  expect(existsSync(path)).toBe(false);
}
