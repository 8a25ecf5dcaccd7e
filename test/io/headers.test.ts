/** Connections whose PROXY header is still to come, moved by hand. */
import { expect, test } from "bun:test";
import { now } from "../../src/io/clock.ts";
import { Headers } from "../../src/io/headers.ts";
import { EVENT } from "../../src/io/reactor.ts";
import type { ProxyReceiving } from "../../src/model/proxy.ts";
import { native } from "../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { Ground } from "./ground.ts";

function headers(ground: Ground) {
  const told: string[] = [];
  const made = new Headers(ground.reactor, {
    waiting: (change) => void told.push(`${change > 0 ? "+" : ""}${change}`),
    told: () => void told.push("told"),
    arrived: () => void told.push("arrived"),
    refused: (reason, flow) => {
      native.sb_close(flow[FLOW_FD_WORD]! | 0);
      told.push(reason);
    },
  });
  ground.defer(() => made.close());
  return { headers: made, told };
}

const REQUIRED: ProxyReceiving = {
  mode: "require",
  from: [{ address: new Uint8Array(16), mask: new Uint8Array(16) }],
  waitMs: 3000,
};

test("one that cannot be watched for want of room in epoll is refused by itself, and ends nobody else", async () => {
  using ground = await Ground.lay();
  const { headers: made, told } = headers(ground);
  const { flow } = ground.connection();
  ground.reactor.watch(flow[FLOW_FD_WORD]! | 0, EVENT.in, () => {}).forget(); // epoll refuses a second one, as it would a last one
  expect(made.isReady(flow, 0, 0, REQUIRED)).toBe(false);
  expect(told).toEqual(["limit"]);
});

test("one that has waited elsewhere may wait for the rest of its time", async () => {
  using ground = await Ground.lay();
  const { headers: made, told } = headers(ground);
  const { flow } = ground.connection();
  expect(made.isReady(flow, 0, 0, { ...REQUIRED, waitMs: 3_600_000 }, now() - 3_600_000)).toBe(false);
  while (told.length < 3) ground.reactor.turn();
  expect(told).toEqual(["+1", "-1", "proxy-timeout"]);
});
