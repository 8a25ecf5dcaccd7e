/** One way to one receiver, with real connections: what it promises about order, waiting, and giving up. */
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { renameSync, rmSync } from "node:fs";
import { now } from "../../src/io/clock.ts";
import { Delivery, type DeliveryEvents } from "../../src/io/deliver.ts";
import { Fd } from "../../src/io/fd.ts";
import { SOCK } from "../../src/io/socket.ts";
import { type Receiver, type Target, targetOf } from "../../src/model/target.ts";
import { check, ERRNO, errnoName } from "../../src/native/errno.ts";
import { native } from "../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { FLOW_WORDS, flowOf } from "../../src/routing/record.ts";
import { Room } from "../../src/routing/room.ts";
import type { ProxyEnds } from "../../src/wire/proxy.ts";
import { RECEIVER_QUEUE } from "../faults/kit.ts";
import { descriptorsUpTo, testWith } from "../kit/require.ts";
import { boundUnix } from "../kit/sockets.ts";
import { Ground, type Pair, taken } from "./ground.ts";

const FOR_EVER: Target = { ...targetOf({ kind: "fd", fd: 0 }), name: "t", waitMs: 1e9 };

let ground: Ground;
let connection: () => Pair;
let mailbox: (name: string) => Fd;

beforeEach(async () => {
  ground = await Ground.lay();
  connection = () => ground.connection();
  mailbox = (name) => ground.mailbox(name);
});

afterEach(() => ground[Symbol.dispose]());

/** What a delivery tells, in the order in which it does. */
interface Told {
  readonly gaveUp: string[];
  readonly ways: string[];
  waiting: number;
  delivered: number;
  lost: number;
  readonly proxied: Map<number, ProxyEnds>;
}

function made(receiver: Receiver, settings: Partial<Target> = {}, holderOf?: () => number | undefined) {
  const told: Told = { gaveUp: [], ways: [], waiting: 0, delivered: 0, lost: 0, proxied: new Map() };
  const events: DeliveryEvents = {
    gaveUp: (reason, target, flows, at) =>
      void told.gaveUp.push(`${reason} ${target} ${flowOf(flows, at, 0).remotePort}`),
    waiting: (change) => {
      told.waiting += change;
    },
    delivered: (count) => {
      told.delivered += count;
    },
    way: (name, step, errno) => void told.ways.push(`${name} ${step} ${errno ? errnoName(errno) : "well"}`),
    proxied: told.proxied,
    lost: () => {
      told.lost++;
    },
  };
  const target = { ...FOR_EVER, receivers: [receiver], ...settings };
  const room = new Room(target.queue, false, { free: 1e9, shared: false, readmits: false });
  const around = { reactor: ground.reactor, events, holderOf: holderOf ?? (() => undefined) };
  const delivery = new Delivery(target, receiver, around, room, "t");
  ground.defer(() => delivery.close("shutdown"));
  return { delivery, told, room, target };
}

const to = (name: string, settings: Partial<Target> = {}) =>
  made({ kind: "unix", path: ground.path(name) }, settings);

/** Hands connections off in one batch; returns who they are. */
function hand({ delivery }: { delivery: Delivery }, count: number): number[] {
  return handAll(
    delivery,
    Array.from({ length: count }, () => connection()),
  );
}

function handAll(delivery: Delivery, pairs: readonly Pair[]): number[] {
  for (const [index, { flow }] of pairs.entries()) expect(delivery.add(flow, 0, 0)).toBe(index === 0);
  delivery.flush();
  return pairs.map(({ id }) => id);
}

/** Takes from a mailbox, and lets the delivery have its turns, until so many have come. */
function drained(fd: Fd, told: Told, count: number): number[] {
  const ids: number[] = [];
  while (ids.length < count) {
    const some = taken(fd, 3);
    ids.push(...some);
    if (told.waiting > 0) ground.reactor.turn(); // it would wait for ever where there is nothing to wait for
  }
  expect(taken(fd)).toEqual([]);
  return ids;
}

const gone = (ids: readonly number[], reason: string) => ids.map((id) => `${reason} t ${id}`);

describe("a receiver that is there", () => {
  test("is looked for anew after a pause: one that was renamed into its place gets the first that comes", () => {
    const old = mailbox("r");
    const way = to("r");
    const before = hand(way, 1);
    for (let i = 0; i < 2; i++) way.delivery.tick(now());
    const box = mailbox("new");
    renameSync(ground.path("new"), ground.path("r"));
    const after = hand(way, 2);
    expect([taken(old), taken(box)]).toEqual([before, after]);
  });

  test("gets connections in the order in which they came, batch after batch", () => {
    const box = mailbox("r");
    const way = to("r");
    const ids = [...hand(way, 3), ...hand(way, 1), ...hand(way, 4)];
    expect(taken(box)).toEqual(ids);
    expect(way.told).toMatchObject({ delivered: 8, waiting: 0, gaveUp: [], ways: [] });
  });

  test("and has no more room gets the rest when it has, in order, and nobody asks it in vain", () => {
    const box = mailbox("r");
    const way = to("r");
    const ids = [...hand(way, RECEIVER_QUEUE + 20), ...hand(way, 5)];
    expect(way.told).toMatchObject({ delivered: RECEIVER_QUEUE, waiting: 25 });
    expect(way.delivery).toMatchObject({ waiting: 25, load: 25, missing: false });
    expect(drained(box, way.told, ids.length)).toEqual(ids);
    expect(way.told).toMatchObject({ delivered: ids.length, waiting: 0, gaveUp: [] });
    expect(way.room.waiting).toBe(0);
  });

  test("is waited for by time alone while sending is out of something, and by its room again after that", () => {
    const box = mailbox("r");
    const way = to("r");
    const refuse = (() => -ERRNO.ETOOMANYREFS) as unknown as typeof native.sb_send_fds;
    using refused = spyOn(native, "sb_send_fds").mockImplementation(refuse);
    const ids = hand(way, 3);
    expect(way.told).toMatchObject({ waiting: 3, ways: ["t send ETOOMANYREFS"] });
    // EPOLLOUT is set all the time, and nobody listens to it.
    ground.reactor.after(20, () => {});
    ground.reactor.turn();
    expect(refused).toHaveBeenCalledTimes(1);
    refused.mockRestore();
    way.delivery.tick(now());
    expect(taken(box)).toEqual(ids);
    const more = hand(way, RECEIVER_QUEUE + 2);
    expect(taken(box)).toEqual(more.slice(0, RECEIVER_QUEUE));
    for (const ms of [500, 1000]) {
      ground.reactor.after(ms, () => {});
      ground.reactor.turn();
    }
    expect(taken(box)).toEqual(more.slice(RECEIVER_QUEUE));
  });

  test("counts what waits as long as it waits, and no longer", () => {
    const box = mailbox("r");
    const way = to("r");
    hand(way, RECEIVER_QUEUE + 3);
    expect(way.room.waiting).toBe(3);
    taken(box);
    for (let left = 3; left > 0; left = way.told.waiting) {
      expect(way.room.waiting).toBe(left);
      ground.reactor.turn();
    }
    expect(way.room.waiting).toBe(0);
  });
});

describe("the queue", () => {
  test("is bounded in number: the last to come are given up", () => {
    const way = to("r", { queue: 5 });
    const ids = hand(way, 8);
    expect(way.told.gaveUp.sort()).toEqual(gone(ids.slice(5), "queue-full").sort());
    expect(way.told.waiting).toBe(5);
    const more = hand(way, 2);
    expect(way.told.gaveUp.slice(3).sort()).toEqual(gone(more, "queue-full").sort());
    const box = mailbox("r");
    way.delivery.tick(now());
    expect(taken(box)).toEqual(ids.slice(0, 5));
  });

  test("is bounded in age: whoever has waited too long is given up, by whether somebody is there", () => {
    const way = to("r", { waitMs: 1000 });
    const before = now();
    const ids = hand(way, 2);
    way.delivery.tick(before + 999);
    expect(way.told.gaveUp).toEqual([]);
    way.delivery.tick(now() + 1001);
    expect(way.told.gaveUp).toEqual(gone(ids, "no-receiver"));
    mailbox("r");
    const late = hand(way, RECEIVER_QUEUE + 2).slice(-2);
    way.delivery.tick(now() + 1001);
    expect(way.told.gaveUp.slice(2)).toEqual(gone(late, "timeout"));
    expect(way.told).toMatchObject({ waiting: 0, delivered: RECEIVER_QUEUE });
  });

  test("takes other settings at once, and what waits goes on waiting by them", () => {
    const way = to("r", { waitMs: 1000 });
    const before = now();
    const ids = hand(way, 2);
    way.delivery.retarget({ ...way.target, waitMs: 5000 });
    way.delivery.tick(before + 4000);
    expect(way.told.gaveUp).toEqual([]);
    way.delivery.tick(now() + 5001);
    expect(way.told.gaveUp).toEqual(gone(ids, "no-receiver"));
  });

  test("lets somebody else have what waits, in order, with its listener and descriptor", () => {
    const way = to("r");
    const ids = hand(way, 4);
    const all = way.delivery.takeWaiting();
    expect(all.map(({ flow }) => flowOf(flow, 0, 0).remotePort)).toEqual(ids);
    expect(all.map(({ listener }) => listener)).toEqual([0, 0, 0, 0]);
    for (const { since } of all) expect(now() - since).toBeWithin(0, 60_000);
    expect(way.told).toMatchObject({ waiting: 0, gaveUp: [] });
    for (const { flow } of all) expect(native.sb_close(flow[FLOW_FD_WORD]! | 0)).toBe(0);
  });

  test("gives up by its whole age what has waited elsewhere before, wherever in the queue it is", () => {
    const way = to("r", { waitMs: 1000 });
    const [young, old, older] = [ground.connection(), ground.connection(), ground.connection()];
    const time = now();
    way.delivery.add(young.flow, 0, 0);
    way.delivery.add(old.flow, 0, 0, time - 500);
    way.delivery.add(older.flow, 0, 0, time - 990);
    way.delivery.flush();
    way.delivery.tick(time + 400);
    expect(way.told.gaveUp).toEqual(gone([older.id], "no-receiver"));
    way.delivery.tick(time + 600);
    expect(way.told.gaveUp).toEqual(gone([older.id, old.id], "no-receiver"));
    expect(way.told.waiting).toBe(1);
  });

  test("gives up what is left when it is closed", () => {
    const way = to("r");
    const ids = hand(way, 2);
    way.delivery.close("shutdown");
    expect(way.told).toMatchObject({ waiting: 0, gaveUp: gone(ids, "shutdown") });
  });
});

describe("a client", () => {
  test("that was the last to wait, and resets, leaves the way open for who comes next", () => {
    const way = to("r");
    const last = connection();
    const [gaveUp] = handAll(way.delivery, [last]);
    native.sb_reset(last.client.take());
    way.delivery.tick(now());
    expect(way.told).toMatchObject({ gaveUp: gone([gaveUp!], "client-gone"), waiting: 0 });
    const next = hand(way, 2);
    way.delivery.tick(now()); // would go on for ever, if it tried none of them at a time
    const box = mailbox("r");
    way.delivery.tick(now());
    expect(taken(box)).toEqual(next);
  });

  test("that resets while it waits is given up, one that only finished sending is delivered", () => {
    const way = to("r");
    const [reset, half] = [connection(), connection()];
    const ids = handAll(way.delivery, [reset, half]);
    native.sb_shutdown(half.client.number, 1);
    native.sb_reset(reset.client.take());
    const box = mailbox("r");
    way.delivery.tick(now());
    expect(taken(box)).toEqual([ids[1]!]);
    expect(way.told).toMatchObject({ gaveUp: gone([ids[0]!], "client-gone"), waiting: 0, delivered: 1 });
  });

  test("that resets while it waits is not delivered either when there is room before anybody has looked", () => {
    const box = mailbox("r");
    const way = to("r");
    const first = hand(way, RECEIVER_QUEUE);
    const [reset, patient] = [connection(), connection()];
    const ids = handAll(way.delivery, [reset, patient]);
    native.sb_reset(reset.client.take());
    expect(taken(box)).toEqual(first);
    expect(drained(box, way.told, 1)).toEqual([ids[1]!]);
    expect(way.told).toMatchObject({ gaveUp: gone([ids[0]!], "client-gone"), waiting: 0 });
  });

  testWith(descriptorsUpTo(5000))(
    "that resets in a queue of thousands is found within a few ticks, at the end of it too, and again and again",
    () => {
      const way = to("r", { queue: 5000 });
      const quiet = connection();
      const fillers = Array.from({ length: 4499 }, () => {
        const flow = quiet.flow.slice();
        flow[FLOW_FD_WORD] = native.sb_duplicate(quiet.flow[FLOW_FD_WORD]!);
        return { ...quiet, flow };
      });
      const [early, late] = [connection(), connection()];
      handAll(way.delivery, [quiet, early, ...fillers, late]);
      const given = () => way.told.gaveUp.length;
      way.delivery.tick(now());
      native.sb_reset(late.client.take());
      for (let tick = 0; given() === 0 && tick < 3; tick++) way.delivery.tick(now());
      expect(way.told.gaveUp).toEqual(gone([late.id], "client-gone"));
      native.sb_reset(early.client.take());
      for (let tick = 0; given() === 1 && tick < 3; tick++) way.delivery.tick(now());
      expect(way.told.gaveUp).toEqual(gone([late.id, early.id], "client-gone"));
      expect(way.told.waiting).toBe(4500);
      way.delivery.close("shutdown");
    },
  );
});

describe("a receiver that goes and comes", () => {
  test("gets what waited once it is there, and both are told once", () => {
    const way = to("r");
    const ids = hand(way, 3);
    way.delivery.tick(now());
    expect(way.delivery.missing).toBe(true);
    expect(way.told.ways).toEqual(["t connect ENOENT"]);
    const box = mailbox("r");
    way.delivery.tick(now());
    expect(taken(box)).toEqual(ids);
    expect(way.delivery.missing).toBe(false);
    expect(way.told.ways).toEqual(["t connect ENOENT", "t send well"]);
  });

  test("is found anew in the middle of a batch", () => {
    const first = mailbox("r");
    const way = to("r");
    const ids = hand(way, 2);
    expect(taken(first)).toEqual(ids);
    first.close();
    rmSync(ground.path("r"));
    const second = mailbox("r");
    const more = hand(way, 2);
    expect(taken(second)).toEqual(more);
    expect(way.told).toMatchObject({ delivered: 4, gaveUp: [], ways: [] });
  });

  test("gets what waited for one that lives on and takes nothing, also when nobody else comes", () => {
    const old = mailbox("r");
    const way = to("r");
    const ids = hand(way, RECEIVER_QUEUE + 3);
    const successor = mailbox("new");
    renameSync(ground.path("new"), ground.path("r"));
    way.delivery.tick(now());
    expect(taken(successor)).toEqual(ids.slice(RECEIVER_QUEUE));
    expect(taken(old)).toEqual(ids.slice(0, RECEIVER_QUEUE));
    expect(way.told).toMatchObject({ waiting: 0, gaveUp: [] });
  });

  test("is found by its path although the old one lives on", () => {
    const old = mailbox("r");
    const way = to("r");
    hand(way, 1);
    const successor = mailbox("new");
    renameSync(ground.path("new"), ground.path("r"));
    way.delivery.tick(now());
    const ids = hand(way, 2);
    expect(taken(successor)).toEqual(ids);
    expect(taken(old)).toHaveLength(1);
  });

  test("that leaves politely keeps what it has, and gets no more", () => {
    const leaving = mailbox("r");
    const way = to("r");
    const had = hand(way, 2);
    native.sb_shutdown(leaving.number, 0);
    const waits = hand(way, 2);
    expect(taken(leaving)).toEqual(had);
    expect(way.told).toMatchObject({ waiting: 2, gaveUp: [] });
    leaving.close();
    rmSync(ground.path("r"));
    const next = mailbox("r");
    way.delivery.tick(now());
    expect(taken(next)).toEqual(waits);
  });

  test("whose queue dies with it loses that alone", () => {
    const killed = mailbox("r");
    const way = to("r");
    const ids = hand(way, RECEIVER_QUEUE + 4);
    killed.close();
    rmSync(ground.path("r"));
    const next = mailbox("r");
    way.delivery.tick(now());
    expect(taken(next)).toEqual(ids.slice(RECEIVER_QUEUE));
  });
});

test("an inherited socket whose peer has gone gives up what waits, and says that it is lost, once", () => {
  using pair = listening("s");
  using ours = Fd.from(native.sb_connect_unix(cText(ground.path("s")), SOCK.seqpacket), "connect");
  const flow = new Uint32Array(FLOW_WORDS);
  check(native.sb_accept(pair.number, flow, 1, 0), "accept");
  const theirs = new Fd(flow[FLOW_FD_WORD]! | 0);
  const way = made({ kind: "fd", fd: ours.number });
  const [first] = hand(way, 1);
  expect(taken(theirs, 1)).toEqual([first!]);
  theirs.close();
  const ids = hand(way, 2);
  expect(way.told).toMatchObject({ lost: 1, waiting: 0, gaveUp: gone(ids, "receiver-gone") });
  expect(hand(way, 1).map((id) => `receiver-gone t ${id}`)).toEqual(way.told.gaveUp.slice(2));
  expect(way.delivery.missing).toBe(true);
  // The number that it was told stays its owner's.
  expect(ours.open).toBe(true);
});

test("a slot's connections wait for whoever registers, and go on to the next holder", () => {
  let holder: number | undefined;
  const way = made({ kind: "slot", slot: 7 }, {}, () => holder);
  const ids = hand(way, 2);
  expect(way.told).toMatchObject({ waiting: 2, delivered: 0 });
  const box = mailbox("h");
  using first = Fd.from(native.sb_connect_unix(cText(ground.path("h")), SOCK.datagram), "connect");
  holder = first.number;
  way.delivery.reconnect();
  expect(taken(box)).toEqual(ids);
  holder = undefined;
  way.delivery.reconnect();
  const late = hand(way, 1);
  const other = mailbox("o");
  using second = Fd.from(native.sb_connect_unix(cText(ground.path("o")), SOCK.datagram), "connect");
  holder = second.number;
  way.delivery.reconnect();
  expect(taken(other)).toEqual(late);
  expect(taken(box)).toEqual([]);
});

describe("another delivery", () => {
  test("takes over what waits, in order, and sends it at once", () => {
    const [missing, there] = [to("m"), to("r")];
    const box = mailbox("r");
    const ids = hand(missing, 5);
    there.delivery.takeOver(missing.delivery, 3);
    missing.delivery.keep();
    there.delivery.keep();
    expect(taken(box)).toEqual(ids.slice(0, 3));
    expect([missing.told.waiting, there.told.waiting]).toEqual([2, 0]);
    expect([missing.room.waiting, there.room.waiting]).toEqual([2, 0]);
  });

  test("gives up what has waited too long, although it stands behind younger ones", () => {
    const [missing, full] = [to("m", { waitMs: 1000 }), to("r", { waitMs: 1000 })];
    mailbox("r");
    const old = hand(missing, 2);
    const time = now();
    const young = hand(full, RECEIVER_QUEUE + 1).slice(-1);
    // As if the first had come 500 ms before.
    for (const way of [missing, full]) way.delivery.tick(time);
    full.delivery.takeOver(missing.delivery, 2);
    missing.delivery.keep();
    full.delivery.keep();
    expect(full.told.waiting).toBe(3);
    full.delivery.tick(now() + 1001);
    expect(full.told.gaveUp).toEqual(gone([...young, ...old], "timeout"));
  });

  test("knows of one that takes nothing, until it does", () => {
    const box = mailbox("r");
    const way = to("r");
    hand(way, RECEIVER_QUEUE + 1);
    way.delivery.tick(now()); // something went since the last
    expect(way.delivery.stuck).toBe(false);
    way.delivery.tick(now());
    expect(way.delivery.stuck).toBe(true);
    taken(box);
    ground.reactor.turn();
    expect(way.delivery.stuck).toBe(false);
  });
});

test("is of use while connections come or wait, and not any more after that", () => {
  mailbox("r");
  const way = to("r");
  hand(way, 1);
  expect(way.delivery.tick(now())).toBe(true);
  expect(way.delivery.tick(now())).toBe(false);
  const missing = to("m");
  hand(missing, 1);
  for (let i = 0; i < 3; i++) expect(missing.delivery.tick(now())).toBe(true);
});

function listening(name: string): Fd {
  const fd = boundUnix(ground.path(name), SOCK.seqpacket);
  check(native.sb_listen(fd.number, 1), "listen");
  return fd;
}

function cText(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
