/** Several deliveries of one target, moved by hand: who gets what, without a server around them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { Deliveries } from "../../src/io/deliveries.ts";
import { type Fd, liveFds } from "../../src/io/fd.ts";
import { ANYBODY } from "../../src/io/mailbox.ts";
import { Reactor } from "../../src/io/reactor.ts";
import { formatReceiver, type Target, targetOf } from "../../src/model/target.ts";
import { check } from "../../src/native/errno.ts";
import { native } from "../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { FLOW_WORDS, flowOf } from "../../src/routing/record.ts";
import { RECEIVER_QUEUE } from "../faults/kit.ts";
import { freePort, scratch } from "../kit/running.ts";
import { boundUnix, listenTcp } from "../kit/sockets.ts";

const LOCALHOST = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1);

let stack: DisposableStack;
let before: number;
let folder: ReturnType<typeof scratch>;
let reactor: Reactor;
let listener: Fd;
let port: number;

beforeEach(async () => {
  before = liveFds();
  stack = new DisposableStack();
  folder = stack.use(scratch());
  reactor = stack.use(new Reactor());
  port = await freePort();
  listener = stack.use(listenTcp(port));
});

afterEach(() => {
  stack.dispose();
  expect(liveFds()).toBe(before);
});

/** One target with these settings, and what its ways tell. */
function pool(names: string, settings: Partial<Target>) {
  const receivers = [...names].map((name) => ({ kind: "unix", path: folder.file(name) }) as const);
  const target = { ...targetOf(receivers[0]!), name: "t", receivers, waitMs: 1e9, ...settings };
  const told = { gaveUp: [] as string[], waiting: 0, siblings: [] as string[] };
  const deliveries = new Deliveries([target], reactor, {
    gaveUp: (reason) => void told.gaveUp.push(reason),
    waiting: (change) => {
      told.waiting += change;
    },
    delivered: () => {},
    way: () => {},
    proxied: new Map(),
    lost: () => {},
    sibling: (_, receiver, present) =>
      void told.siblings.push(`${present ? "+" : "-"}${formatReceiver(receiver).split("/").at(-1)}`),
    free: () => 1e9,
  });
  stack.defer(() => deliveries.close("shutdown"));
  return { deliveries, target, told };
}

function mailbox(name: string): Fd {
  return stack.use(boundUnix(folder.file(name)));
}

/** So many connections in one batch, by their ids. */
function hand(deliveries: Deliveries, count: number): number[] {
  const flow = new Uint32Array(FLOW_WORDS);
  const ids = Array.from({ length: count }, () => {
    const client = check(native.sb_connect_inet(LOCALHOST, 0, port, null, 0, -1), "connect to the listener");
    stack.defer(() => native.sb_close(client));
    check(native.sb_accept(listener.number, flow, 1, 0), "accept");
    deliveries.add(0, flow, 0, 0);
    return flowOf(flow, 0, 0).remotePort;
  });
  deliveries.flush();
  return ids;
}

function taken(fd: Fd): number[] {
  const flow = new Uint32Array(FLOW_WORDS);
  const ids: number[] = [];
  while (native.sb_receive_fds(fd.number, flow, 1, 2, ANYBODY, null) === 1) {
    ids.push(flowOf(flow, 0, 0).remotePort);
    native.sb_close(flow[FLOW_FD_WORD]! | 0);
  }
  return ids;
}

test("takes turns within a batch, and each gets its own in order", () => {
  const [a, b] = [mailbox("a"), mailbox("b")];
  const { deliveries } = pool("ab", {});
  const ids = hand(deliveries, 7);
  expect(taken(a)).toEqual(ids.filter((_, index) => index % 2 === 0));
  expect(taken(b)).toEqual(ids.filter((_, index) => index % 2 === 1));
});

test("with fallback, what one has no room for goes to another in the same batch, in order", () => {
  const [a, b] = [mailbox("a"), mailbox("b")];
  const { deliveries, told } = pool("ab", { fallback: true, balance: "source-hash" });
  // All clients have one address: one receiver is theirs.
  const ids = hand(deliveries, RECEIVER_QUEUE + 5);
  const [first, second] = [taken(a), taken(b)].sort((one, other) => other.length - one.length);
  expect(first).toEqual(ids.slice(0, RECEIVER_QUEUE));
  expect(second).toEqual(ids.slice(RECEIVER_QUEUE));
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
});

test("with fallback nothing is given up for want of room while another has some", () => {
  const b = mailbox("b");
  const { deliveries, told } = pool("ab", { fallback: true, queue: 2 });
  const ids = hand(deliveries, RECEIVER_QUEUE);
  expect(taken(b).sort()).toEqual(ids.sort());
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
  hand(deliveries, RECEIVER_QUEUE + 4);
  expect(told.waiting).toBe(2);
  expect(told.gaveUp).toEqual(["queue-full", "queue-full"]);
});

test("without fallback each waits for its own, and one may have half of the places alone", () => {
  mailbox("b");
  const { deliveries, told } = pool("ab", { queue: 8 });
  hand(deliveries, 12); // six for the missing one
  expect(told).toMatchObject({ waiting: 4, gaveUp: ["queue-full", "queue-full"] });
});

test("with fallback, what waits for one that takes nothing goes to the first that does", () => {
  const [a, b] = [mailbox("a"), mailbox("b")];
  const { deliveries, told } = pool("ab", { fallback: true });
  const ids = hand(deliveries, 2 * RECEIVER_QUEUE + 6);
  expect(told.waiting).toBe(6);
  const served: number[] = [];
  // Only b takes anything from here on; a stands still.
  while (served.length < RECEIVER_QUEUE + 6) {
    served.push(...taken(b));
    if (told.waiting > 0) reactor.turn();
  }
  expect([...served, ...taken(a)].sort()).toEqual(ids.sort());
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
});

test("spread finds siblings that come, leaves those that go, and does not ask twice within 100 ms", async () => {
  const a = mailbox("a");
  const { deliveries, told } = pool("a", { spread: true });
  hand(deliveries, 1);
  const one = mailbox("a.1");
  const last = mailbox("a.64");
  mailbox("a.65"); // beyond the last
  hand(deliveries, 1);
  expect(told.siblings).toEqual([]);
  expect(taken(a)).toHaveLength(2);
  while (told.siblings.length < 2) {
    hand(deliveries, 1);
    reactor.turn();
  }
  expect(told.siblings).toEqual(["+a.1", "+a.64"]);
  for (const fd of [a, one, last]) taken(fd);
  hand(deliveries, 9);
  expect([a, one, last].map((fd) => taken(fd).length)).toEqual([3, 3, 3]);
  // What is only a file any more gets nothing; what is not even that is not a member any more.
  one.close();
  const ids = hand(deliveries, 6);
  expect([...taken(a), ...taken(last)].sort()).toEqual(ids.sort());
  rmSync(folder.file("a.1"));
  while (told.siblings.length < 3) {
    hand(deliveries, 1);
    reactor.turn();
    for (const fd of [a, last]) taken(fd);
  }
  expect(told.siblings.at(-1)).toBe("-a.1");
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
});

test("a reload keeps what waits, and the sockets of receivers that stay", () => {
  const { deliveries, target, told } = pool("ab", {});
  const ids = hand(deliveries, 4);
  const receivers = [...target.receivers.slice(1), { kind: "unix", path: folder.file("c") } as const];
  deliveries.replace([{ ...target, receivers }]);
  expect(told).toMatchObject({ waiting: 4, gaveUp: [] });
  const boxes = [mailbox("a"), mailbox("b"), mailbox("c")];
  while (told.waiting > 0) reactor.turn();
  expect(boxes.map(taken)).toEqual([[ids[0]!, ids[2]!], [ids[1]!, ids[3]!], []]);
  const more = hand(deliveries, 4);
  expect(boxes.map(taken)).toEqual([[], [more[0]!, more[2]!], [more[1]!, more[3]!]]);
});
