/** Several deliveries of one target, moved by hand: who gets what, without a server around them. */
import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import { rmSync } from "node:fs";
import { Deliveries } from "../../src/io/deliveries.ts";
import { type Fd, liveFds } from "../../src/io/fd.ts";
import { formatReceiver, type Target, targetOf } from "../../src/model/target.ts";
import { RECEIVER_QUEUE } from "../faults/kit.ts";
import { Ground, taken } from "./ground.ts";

let ground: Ground;
let mailbox: (name: string) => Fd;

beforeEach(async () => {
  ground = await Ground.lay();
  mailbox = (name) => ground.mailbox(name);
});

afterEach(() => ground[Symbol.dispose]());

/** One target with these settings, and what its ways tell. */
function pool(names: string, settings: Partial<Target>) {
  const receivers = [...names].map((name) => ({ kind: "unix", path: ground.path(name) }) as const);
  const target = { ...targetOf(receivers[0]!), name: "t", receivers, waitMs: 1e9, ...settings };
  const told = { gaveUp: [] as string[], waiting: 0, siblings: [] as string[] };
  const deliveries = new Deliveries([target], ground.reactor, {
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
  ground.defer(() => deliveries.close("shutdown"));
  return { deliveries, target, told };
}

/** So many connections in one batch, by their ids. */
function hand(deliveries: Deliveries, count: number): number[] {
  const pairs = Array.from({ length: count }, () => ground.connection());
  for (const { flow } of pairs) deliveries.add(0, flow, 0, 0);
  deliveries.flush();
  return pairs.map(({ id }) => id);
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
    if (told.waiting > 0) ground.reactor.turn();
  }
  expect([...served, ...taken(a)].sort()).toEqual(ids.sort());
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
});

test("spread finds siblings that come, leaves those that go, and does not ask twice within 100 ms", async () => {
  const a = mailbox("a");
  const clock = spyOn(performance, "now").mockReturnValue(performance.now());
  const { deliveries, told } = pool("a", { spread: true });
  hand(deliveries, 1);
  const one = mailbox("a.1");
  const last = mailbox("a.64");
  mailbox("a.65"); // beyond the last
  clock.mockReturnValue(performance.now() + 99);
  hand(deliveries, 1);
  clock.mockRestore();
  expect(told.siblings).toEqual([]);
  expect(taken(a)).toHaveLength(2);
  while (told.siblings.length < 2) {
    hand(deliveries, 1);
    ground.reactor.turn();
  }
  expect(told.siblings).toEqual(["+a.1", "+a.64"]);
  for (const fd of [a, one, last]) taken(fd);
  hand(deliveries, 9);
  expect([a, one, last].map((fd) => taken(fd).length)).toEqual([3, 3, 3]);
  // What is only a file any more gets nothing; what is not even that is not a member any more.
  one.close();
  const ids = hand(deliveries, 6);
  expect([...taken(a), ...taken(last)].sort()).toEqual(ids.sort());
  rmSync(ground.path("a.1"));
  while (told.siblings.length < 3) {
    hand(deliveries, 1);
    ground.reactor.turn();
    for (const fd of [a, last]) taken(fd);
  }
  expect(told.siblings.at(-1)).toBe("-a.1");
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
});

test("a reload goes on with the siblings that are known, and does not tell of them again", () => {
  const boxes = ["a", "a.1", "a.2"].map((name) => mailbox(name));
  const { deliveries, target, told } = pool("a", { spread: true });
  expect(told.siblings).toEqual(["+a.1", "+a.2"]);
  hand(deliveries, 3);
  const open = liveFds();
  deliveries.replace([{ ...target, balance: "least-waiting" }]);
  expect(liveFds()).toBe(open);
  hand(deliveries, 3);
  expect(boxes.map((box) => taken(box).length)).toEqual([2, 2, 2]);
  expect(told.siblings).toEqual(["+a.1", "+a.2"]);
});

test("a target that one reload takes away and the next brings back goes on with what waits, in order", () => {
  const { deliveries, target, told } = pool("a", { queue: 3 });
  const ids = hand(deliveries, 2);
  deliveries.replace([]);
  deliveries.replace([target]);
  const [third] = hand(deliveries, 2);
  expect(told).toMatchObject({ waiting: 3, gaveUp: ["queue-full"] });
  deliveries.replace([{ ...target, queue: 4 }]);
  const box = mailbox("a");
  const fourth = hand(deliveries, 1);
  while (told.waiting > 0) ground.reactor.turn();
  expect(taken(box)).toEqual([...ids, third!, ...fourth]);
  expect(told.gaveUp).toEqual(["queue-full"]);
});

test("a template that one reload takes away and the next brings back goes on with what waits, in order", () => {
  const { deliveries, target, told } = pool("a", {});
  const template = {
    ...target,
    receivers: [{ kind: "unix", path: ground.path("{local}"), fill: "braces" }],
  } as const;
  deliveries.replace([template]);
  const ids = hand(deliveries, 2);
  deliveries.replace([]);
  deliveries.replace([template]);
  ids.push(...hand(deliveries, 2));
  expect(told).toMatchObject({ waiting: 4, gaveUp: [] });
  const box = mailbox("127.0.0.1");
  while (told.waiting > 0) ground.reactor.turn();
  expect(taken(box)).toEqual(ids);
});

test("what waits for a receiver that a reload takes from its target goes to those that are left, whatever their room", () => {
  const { deliveries, target, told } = pool("ab", { balance: "source-hash" });
  const ids = hand(deliveries, 3);
  const box = mailbox("c");
  deliveries.replace([{ ...target, queue: 1, receivers: [{ kind: "unix", path: ground.path("c") }] }]);
  expect(taken(box)).toEqual(ids);
  expect(told).toMatchObject({ waiting: 0, gaveUp: [] });
});

test("a path that a table names, another's template leads to, and the next names again keeps all that waits", () => {
  const named = { kind: "unix", path: ground.path("127.0.0.1") } as const;
  const filled = { kind: "unix", path: ground.path("{local}"), fill: "braces" } as const;
  const { deliveries, target, told } = pool("a", {});
  const ids: number[] = [];
  for (const receiver of [named, filled, named, named, filled, named]) {
    deliveries.replace([{ ...target, receivers: [receiver] }]);
    ids.push(...hand(deliveries, 2));
  }
  const box = mailbox("127.0.0.1");
  const got: number[] = [];
  while (told.waiting > 0) {
    ground.reactor.turn();
    got.push(...taken(box));
  }
  expect(got.toSorted()).toEqual(ids.toSorted());
  expect(told.gaveUp).toEqual([]);
});

test("a reload keeps what waits for receivers that stay, and their sockets", () => {
  const { deliveries, target, told } = pool("ab", {});
  const ids = hand(deliveries, 4);
  const receivers = [...target.receivers.slice(1), { kind: "unix", path: ground.path("c") } as const];
  deliveries.replace([{ ...target, receivers }]);
  expect(told).toMatchObject({ waiting: 4, gaveUp: [] });
  const boxes = [mailbox("a"), mailbox("b"), mailbox("c")];
  while (told.waiting > 0) ground.reactor.turn();
  expect(boxes.map((box) => taken(box))).toEqual([[], [ids[1]!, ids[3]!, ids[0]!], [ids[2]!]]);
  const more = hand(deliveries, 4);
  expect(boxes.map((box) => taken(box))).toEqual([[], [more[0]!, more[2]!], [more[1]!, more[3]!]]);
});
