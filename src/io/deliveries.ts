/** All deliveries of one acceptor: one for each target, or for each path that a template has been filled in to. */

import type { Reason } from "../model/reason.ts";
import { fillReceiver, type Target } from "../model/target.ts";
import { flowOf } from "../routing/record.ts";
import { Delivery, type DeliveryEvents } from "./deliver.ts";
import type { Reactor, Timer } from "./reactor.ts";

const TICK_MS = 100;

/** How many ways of filled-in templates are kept when nothing uses them; each holds a descriptor. */
const IDLE_WAYS_MAX = 256;

export class Deliveries {
  readonly #reactor: Reactor;
  readonly #events: DeliveryEvents;
  readonly #targets: readonly Target[];
  /** By index of the target, where its receiver is the same for every flow. */
  readonly #fixed: (Delivery | undefined)[];
  /** By path, where each flow fills it in. */
  readonly #filled = new Map<string, Delivery>();
  /** Those with connections of the batch in hand. */
  readonly #touched: Delivery[] = [];
  /** Those that need to be ticked. */
  readonly #active = new Set<Delivery>();
  #ticking: Timer | undefined;

  constructor(targets: readonly Target[], reactor: Reactor, events: DeliveryEvents) {
    this.#targets = targets;
    this.#reactor = reactor;
    this.#events = events;
    this.#fixed = targets.map((target) =>
      target.receiver.kind === "unix" && target.receiver.fill
        ? undefined
        : new Delivery(target, target.receiver, reactor, events),
    );
  }

  /** Adds the connection of the record at word `at` to what `flush` hands off. */
  add(target: number, flows: Uint32Array, at: number, listener: number): void {
    const delivery = this.#fixed[target] ?? this.#fill(this.#targets[target]!, flows, at, listener);
    if (delivery.add(flows, at)) this.#touched.push(delivery);
  }

  /** Hands off the batch that came in by `listener`. */
  flush(flows: Uint32Array, listener: number): void {
    for (const delivery of this.#touched) {
      delivery.flush(flows, listener);
      this.#active.add(delivery);
    }
    this.#touched.length = 0;
    if (!this.#ticking && this.#active.size > 0)
      this.#ticking = this.#reactor.after(TICK_MS, () => this.#tick());
  }

  /** Gives up whatever still waits, and lets go of every socket. */
  close(reason: Reason): void {
    this.#ticking?.cancel();
    for (const delivery of this.#fixed) delivery?.close(reason);
    for (const delivery of this.#filled.values()) delivery.close(reason);
  }

  #tick(): void {
    const now = performance.now();
    for (const delivery of this.#active) {
      if (!delivery.tick(now)) this.#active.delete(delivery);
    }
    this.#ticking = this.#active.size > 0 ? this.#reactor.after(TICK_MS, () => this.#tick()) : undefined;
  }

  #fill(target: Target, flows: Uint32Array, at: number, listener: number): Delivery {
    const receiver = fillReceiver(target.receiver, flowOf(flows, at, listener));
    const key = receiver.kind === "unix" ? receiver.path : "";
    const known = this.#filled.get(key);
    if (known) return known;
    if (this.#filled.size >= IDLE_WAYS_MAX) this.#forgetIdle();
    const delivery = new Delivery(target, receiver, this.#reactor, this.#events);
    this.#filled.set(key, delivery);
    return delivery;
  }

  /** A client that walks through a whole prefix must not leave a descriptor behind for each address. */
  #forgetIdle(): void {
    for (const [path, delivery] of this.#filled) {
      if (this.#active.has(delivery)) continue;
      delivery.close("shutdown");
      this.#filled.delete(path);
    }
  }
}
