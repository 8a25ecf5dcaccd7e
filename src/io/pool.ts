/**
 * Several receivers of one target: which of them takes a connection is decided in routing/choose.ts, from what their
 * deliveries know. Here is what follows from it: the siblings of a path are found and left, and what waits in vain
 * goes to another.
 */
import type { Reason } from "../model/reason.ts";
import { isTemplate, type Receiver, SIBLINGS_MAX, siblingPath, type Target } from "../model/target.ts";
import { choose, shelterOf } from "../routing/choose.ts";
import type { Room } from "../routing/room.ts";
import type { Delivery, Taken, Way } from "./deliver.ts";
import { isUnixThere } from "./unix.ts";

/** The shortest time between two looks for siblings, in milliseconds. */
const LOOK_MS = 100;
/** One who comes takes the lowest number that is free, so most looks go no further than these beyond the known. */
const LOOK_AHEAD = 4;
/** Every so manieth look is at all numbers: whatever else may have put something there. */
const LOOK_WHOLE = 10;

export interface PoolEvents {
  /** A new delivery to one of the receivers. */
  make(receiver: Receiver): Delivery;
  /** A receiver beside those that the target names has come, or gone. */
  sibling(target: Target, receiver: Receiver, present: boolean): void;
}

export class Pool implements Way {
  #target: Target;
  readonly #events: PoolEvents;
  readonly #room: Room;
  /** The receivers that the target names, filled in. */
  readonly #named: readonly Receiver[];
  /** Those, and the siblings of their paths. */
  #members: Delivery[];
  #turn = 0;
  /** Something has been added since the last flush, or tick. */
  #touched = false;
  #busy = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looks = 0;

  constructor(target: Target, receivers: readonly Receiver[], room: Room, events: PoolEvents) {
    this.#target = target;
    this.#named = receivers;
    this.#room = room;
    this.#events = events;
    this.#members = receivers.map((receiver) => events.make(receiver));
    if (target.spread) this.#look();
  }

  get target(): Target {
    return this.#target;
  }

  get deliveries(): readonly Delivery[] {
    return this.#members;
  }

  add(flows: Uint32Array, at: number, listener: number, since = 0): boolean {
    // After a pause nobody has looked for some time; in between, the ticks do.
    if (!this.#busy && this.#target.spread) this.#look();
    const chosen = choose(this.#target, this.#members, this.#turn, flows, at);
    this.#turn = (chosen + 1) % this.#members.length;
    this.#members[chosen]!.add(flows, at, listener, since);
    const first = !this.#touched;
    this.#touched = this.#busy = true;
    return first;
  }

  flush(): void {
    this.#touched = false;
    for (const member of this.#members) if (member.load > member.waiting) member.handOff();
    this.#relieve();
    for (const member of this.#members) member.keep();
  }

  tick(now: number): boolean {
    let busy = this.#busy;
    this.#busy = false;
    if (this.#target.spread) this.#look();
    for (const member of this.#members) {
      if (member.missing) member.probe();
      if (member.work(now)) busy = true;
    }
    this.#relieve();
    for (const member of this.#members) member.keep();
    return busy;
  }

  retarget(target: Target): void {
    this.#target = target;
    for (const member of this.#members) member.retarget(target);
  }

  takeWaiting(): Taken[] {
    return this.#members.flatMap((member) => member.takeWaiting());
  }

  close(reason: Reason): void {
    for (const member of this.#members) member.close(reason);
  }

  /** Lets others take over what a member cannot deliver: in as many rounds as there are members, at most. */
  #relieve(): void {
    const { fallback, spread } = this.#target;
    if (!fallback && !spread) return;
    const members = this.#members;
    for (let times = 0; times < members.length; times++) {
      let moved = false;
      for (const [from, member] of members.entries()) {
        const to = shelterOf(this.#target, members, from);
        if (to === undefined) continue;
        const shelter = members[to]!;
        // To one that has to let them wait, only as many as may wait there.
        const count =
          shelter.load === 0 ? member.load : Math.min(member.load, this.#room.moreOfOurs(shelter.load));
        if (count === 0) continue;
        shelter.takeOver(member, count);
        moved = true;
      }
      if (!moved) return;
    }
  }

  /** Which siblings there are now; one with something waiting stays until that is delivered or taken over. */
  #look(): void {
    const now = performance.now();
    if (now - this.#lookedAt < LOOK_MS) return;
    this.#lookedAt = now;
    const most = this.#looks++ % LOOK_WHOLE === 0 ? SIBLINGS_MAX : LOOK_AHEAD;
    const known = new Map(this.#members.map((member) => [pathOf(member.receiver), member]));
    const members = this.#members.slice(0, this.#named.length);
    const names = new Set(this.#named.map(pathOf));
    for (const named of this.#named) {
      let absent = 0;
      for (let number = 1; number <= SIBLINGS_MAX; number++) {
        const path = siblingPath(pathOf(named), number);
        const member = known.get(path);
        if (names.has(path) || (!member && absent >= most)) continue;
        const present = isUnixThere(path);
        if (!present) absent++;
        if (present || (member && member.load > 0))
          members.push(member ?? this.#join({ kind: "unix", path }));
        else if (member) this.#leave(member);
      }
    }
    this.#members = members;
  }

  #join(receiver: Receiver): Delivery {
    this.#tell(receiver, true);
    const member = this.#events.make(receiver);
    member.probe(); // its file may be all that is left of it
    return member;
  }

  #leave(member: Delivery): void {
    this.#tell(member.receiver, false);
    member.close("shutdown");
  }

  /** Not for each of any number of filled-in paths. */
  #tell(receiver: Receiver, present: boolean): void {
    if (!isTemplate(this.#target)) this.#events.sibling(this.#target, receiver, present);
  }
}

/** Only paths have siblings. */
function pathOf(receiver: Receiver): string {
  return receiver.kind === "unix" ? receiver.path : "";
}
