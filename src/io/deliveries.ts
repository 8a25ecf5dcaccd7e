/** All deliveries of one acceptor: one for each target, or for each path that a template has been filled in to. */

import type { Reason } from "../model/reason.ts";
import { fillReceiver, formatReceiver, type Target } from "../model/target.ts";
import { flowOf } from "../routing/record.ts";
import { Delivery, type DeliveryEvents, type Taken } from "./deliver.ts";
import { Fd } from "./fd.ts";
import type { Reactor, Timer } from "./reactor.ts";

const TICK_MS = 100;

/** How many ways of filled-in templates are kept when nothing uses them; each holds a descriptor. */
const IDLE_WAYS_MAX = 256;

/** A way of a template, and the key of its target. */
interface Filled {
  readonly delivery: Delivery;
  readonly key: string;
}

export class Deliveries {
  readonly #reactor: Reactor;
  readonly #events: DeliveryEvents;
  #targets: readonly Target[];
  /** By index of the target, where its receiver is the same for every flow. */
  #fixed: readonly (Delivery | undefined)[];
  /** By path, where each flow fills it in. */
  readonly #filled = new Map<string, Filled>();
  /** By slot, the socket of whoever has registered for it. */
  readonly #holders = new Map<number, Fd>();
  /** Those whose target is no longer in the table; they go when nothing waits there. */
  readonly #leaving = new Set<Delivery>();
  /** Those with connections of the batch in hand. */
  readonly #touched: Delivery[] = [];
  /** Those that need to be ticked. */
  readonly #active = new Set<Delivery>();
  #ticking: Timer | undefined;

  constructor(targets: readonly Target[], reactor: Reactor, events: DeliveryEvents) {
    this.#targets = targets;
    this.#reactor = reactor;
    this.#events = events;
    this.#fixed = targets.map((target) => (isFilled(target) ? undefined : this.#make(target)));
  }

  /** Another table's targets from now on. A way whose receiver is in both keeps its socket, and what waits there. */
  replace(targets: readonly Target[]): void {
    const known = new Map(this.#targets.map((target, index) => [keyOf(target), index]));
    const before = this.#fixed;
    const kept = new Set<Delivery>();
    this.#fixed = targets.map((target) => {
      if (isFilled(target)) return undefined;
      const delivery = before[known.get(keyOf(target)) ?? -1];
      delivery?.retarget(target);
      if (delivery) kept.add(delivery);
      return delivery ?? this.#make(target);
    });
    for (const delivery of before) if (delivery && !kept.has(delivery)) this.#leave(delivery);
    const templates = new Map(targets.map((target) => [keyOf(target), target]));
    for (const [path, { delivery, key }] of this.#filled) {
      const target = templates.get(key);
      if (target) delivery.retarget(target);
      else this.#filled.delete(path) && this.#leave(delivery);
    }
    this.#targets = targets;
    this.#tickLater();
  }

  /** The slot's holder from now on; `socket` becomes ours. `undefined`: nobody. */
  hold(slot: number, socket: number | undefined): void {
    this.#holders.get(slot)?.close();
    if (socket === undefined) this.#holders.delete(slot);
    else this.#holders.set(slot, new Fd(socket));
    for (const delivery of this.#all()) if (delivery.slot === slot) delivery.reconnect();
  }

  /** Everything that waits, in order for each target, for somebody else to deliver. */
  takeWaiting(): Taken[] {
    return [...this.#all()].flatMap((delivery) => delivery.takeWaiting());
  }

  /** Adds the connection of the record at word `at` to what `flush` hands off. */
  add(target: number, flows: Uint32Array, at: number, listener: number): void {
    const delivery = this.#fixed[target] ?? this.#fill(this.#targets[target]!, flows, at, listener);
    if (!delivery.add(flows, at, listener)) return;
    this.#touched.push(delivery);
    // From now on, not from the flush on: the next of this batch may be looking for what is idle.
    this.#active.add(delivery);
  }

  /** Hands off what was added. */
  flush(): void {
    for (const delivery of this.#touched) delivery.flush();
    this.#touched.length = 0;
    this.#tickLater();
  }

  /** Gives up whatever still waits, and lets go of every socket. */
  close(reason: Reason): void {
    this.#ticking?.cancel();
    for (const delivery of this.#all()) delivery.close(reason);
    for (const holder of this.#holders.values()) holder.close();
  }

  *#all(): Generator<Delivery> {
    for (const delivery of this.#fixed) if (delivery) yield delivery;
    for (const { delivery } of this.#filled.values()) yield delivery;
    yield* this.#leaving;
  }

  #make(target: Target, receiver = target.receiver): Delivery {
    return new Delivery(
      target,
      receiver,
      this.#reactor,
      this.#events,
      (slot) => this.#holders.get(slot)?.number,
    );
  }

  #leave(delivery: Delivery): void {
    this.#leaving.add(delivery);
    this.#active.add(delivery);
  }

  #tickLater(): void {
    if (this.#ticking || this.#active.size === 0) return;
    this.#ticking = this.#reactor.after(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    const now = performance.now();
    for (const delivery of this.#active) {
      if (delivery.tick(now)) continue;
      this.#active.delete(delivery);
      if (this.#leaving.delete(delivery)) delivery.close("shutdown");
    }
    this.#ticking = undefined;
    this.#tickLater();
  }

  #fill(target: Target, flows: Uint32Array, at: number, listener: number): Delivery {
    const receiver = fillReceiver(target.receiver, flowOf(flows, at, listener));
    const key = receiver.kind === "unix" ? receiver.path : "";
    const known = this.#filled.get(key);
    if (known) return known.delivery;
    if (this.#filled.size >= IDLE_WAYS_MAX) this.#forgetIdle();
    const delivery = this.#make(target, receiver);
    this.#filled.set(key, { delivery, key: keyOf(target) });
    return delivery;
  }

  /** A client that walks through a whole prefix must not leave a descriptor behind for each address. */
  #forgetIdle(): void {
    for (const [path, { delivery }] of this.#filled) {
      if (this.#active.has(delivery)) continue;
      delivery.close("shutdown");
      this.#filled.delete(path);
    }
  }
}

function isFilled({ receiver }: Target): boolean {
  return receiver.kind === "unix" && receiver.fill !== undefined;
}

/** The same for a target before and after a reload, whatever its settings. */
function keyOf({ name, receiver }: Target): string {
  return JSON.stringify([
    name,
    formatReceiver(receiver),
    receiver.kind === "unix" ? receiver.fill : undefined,
  ]);
}
