/** All ways of one acceptor: one for each target, or for each path that a template has been filled in to. */

import type { Reason } from "../model/reason.ts";
import {
  fillTarget,
  formatReceiver,
  isPool,
  isTemplate,
  type Receiver,
  type Target,
} from "../model/target.ts";
import { flowOf } from "../routing/record.ts";
import { type Hall, Room } from "../routing/room.ts";
import { now } from "./clock.ts";
import { Delivery, type DeliveryEvents, type Surroundings, type Taken, type Way } from "./deliver.ts";
import { Fd } from "./fd.ts";
import { Pool, type PoolEvents } from "./pool.ts";
import type { Reactor, Timer } from "./reactor.ts";
import { Ways } from "./ways.ts";

const TICK_MS = 100;

/** How many ways of filled-in templates are kept when nothing uses them; each holds a descriptor. */
const IDLE_WAYS_MAX = 256;

/** What the ways tell the acceptor that owns them, and ask of it. */
export interface DeliveriesEvents extends DeliveryEvents {
  /** A receiver beside those that the target names has come, or gone. */
  sibling(target: Target, receiver: Receiver, present: boolean): void;
  /** How many more connections may wait in all. */
  free(): number;
}

/** A way of a template, and the key of its target. */
interface Filled {
  readonly way: Way;
  readonly key: string;
}

export class Deliveries implements Hall {
  readonly #around: Surroundings;
  readonly #events: DeliveriesEvents;
  #targets: readonly Target[] = [];
  /** By index of the target, where its receivers are the same for every flow. */
  #fixed: readonly (Way | undefined)[] = [];
  /** By name of the target, with those that are leaving. */
  #rooms: ReadonlyMap<string, Room> = new Map();
  /** By target and path, where each flow fills it in. */
  readonly #filled: Ways<Filled>;
  /** While targets are replaced: those of before, which the new ones may use. */
  readonly #spare = new Map<string, Delivery>();
  /** By slot, the socket of whoever has registered for it. */
  readonly #holders = new Map<number, Fd>();
  /** Those whose target is no longer in the table; they go when nothing waits there. */
  readonly #leaving = new Set<Way>();
  /** Those with connections of the batch in hand. */
  readonly #touched: Way[] = [];
  /** Those that need to be ticked. */
  readonly #active = new Set<Way>();
  #ticking: Timer | undefined;
  #readmits = false;

  constructor(targets: readonly Target[], reactor: Reactor, events: DeliveriesEvents) {
    this.#events = events;
    this.#around = { reactor, events, holderOf: (slot) => this.#holders.get(slot)?.number };
    this.#filled = new Ways(
      IDLE_WAYS_MAX,
      ({ way }) => !this.#active.has(way),
      ({ way }) => way.close("shutdown"),
    );
    this.replace(targets);
  }

  /**
   * Another table's targets from now on. A way whose receiver is in both keeps its socket, and what waits there; so
   * does one that something kept from leaving. What waits where its target no longer leads goes where it leads now.
   */
  replace(targets: readonly Target[]): void {
    const leaving = [...this.#leaving].flatMap((way) => (way instanceof Delivery && way.load > 0 ? way : []));
    const before = [...this.#fixed.flatMap((way) => way?.deliveries ?? []), ...leaving];
    for (const way of this.#fixed) if (way) this.#active.delete(way);
    this.#rooms = this.#roomsFor(targets);
    this.#targets = targets;
    this.#fixed = this.#reusing(before, () =>
      targets.map((target) => (isTemplate(target) ? undefined : this.#makeWay(target, target.receivers))),
    );
    // What waits goes on being looked after, whatever way it is on now.
    for (const way of this.#fixed) if (way?.deliveries.some(({ load }) => load > 0)) this.#active.add(way);
    const templates = new Map(targets.map((target) => [keyOf(target), target]));
    for (const [name, { way, key }] of this.#filled) {
      const target = templates.get(key);
      if (target) way.retarget(target);
      else {
        this.#filled.delete(name);
        this.#leave(way);
      }
    }
    this.#moveOn();
    this.#tickLater();
  }

  #moveOn(): void {
    const indexes = new Map(this.#targets.map(({ name }, index) => [name, index]));
    const homeless = [...this.#leaving].flatMap((way) => {
      const target = indexes.get(way.target.name);
      return target === undefined ? [] : way.takeWaiting().map((taken) => ({ target, ...taken }));
    });
    if (homeless.length === 0) return;
    this.readmit(() => {
      for (const { target, flow, listener, since } of homeless) this.add(target, flow, 0, listener, since);
      this.flush();
    });
  }

  get free(): number {
    return this.#events.free();
  }

  get shared(): boolean {
    return this.#targets.length > 1;
  }

  /** Lets in whatever `add` is called with meanwhile, but for what has waited too long by now. */
  readmit(add: () => void): void {
    this.#readmits = true;
    add();
    this.#readmits = false;
    // At once: who is taken over again and again, each time within a tick, would wait for ever.
    this.#ticking?.cancel();
    this.#tick();
  }

  get readmits(): boolean {
    return this.#readmits;
  }

  /** The slot's holder from now on; `socket` becomes ours. `undefined`: nobody. */
  hold(slot: number, socket: number | undefined): void {
    this.#holders.get(slot)?.close();
    if (socket === undefined) this.#holders.delete(slot);
    else this.#holders.set(slot, new Fd(socket));
    for (const way of this.#all())
      for (const delivery of way.deliveries) if (delivery.slot === slot) delivery.reconnect();
  }

  /** Everything that waits, in order for each receiver, for somebody else to deliver. */
  takeWaiting(): Taken[] {
    return [...this.#all()].flatMap((way) => way.takeWaiting());
  }

  /** Adds the connection of the record at word `at` to what `flush` hands off. `since`: it has waited before. */
  add(target: number, flows: Uint32Array, at: number, listener: number, since = 0): void {
    const way = this.#fixed[target] ?? this.#fill(this.#targets[target]!, flows, at, listener);
    if (!way.add(flows, at, listener, since)) return;
    this.#touched.push(way);
    // From now on, not from the flush on: the next of this batch may be looking for what is idle.
    this.#active.add(way);
  }

  /** Hands off what was added. */
  flush(): void {
    for (const way of this.#touched) way.flush();
    this.#touched.length = 0;
    this.#tickLater();
  }

  /** Gives up whatever still waits, and lets go of every socket. */
  close(reason: Reason): void {
    this.#ticking?.cancel();
    for (const way of this.#all()) way.close(reason);
    for (const holder of this.#holders.values()) holder.close();
  }

  *#all(): Generator<Way> {
    for (const way of this.#fixed) if (way) yield way;
    for (const [, { way }] of this.#filled) yield way;
    yield* this.#leaving;
  }

  /** `receivers` are the target's own, or what its templates give for one flow. */
  #makeWay(target: Target, receivers: readonly Receiver[]): Way {
    const room = this.#rooms.get(target.name)!;
    const quiet = isTemplate(target);
    if (!isPool(target)) return this.#obtain(target, receivers[0]!, room, quiet ? undefined : target.name);
    const events: PoolEvents = {
      make: (receiver) => {
        const label = `${target.name} (${formatReceiver(receiver)})`;
        return this.#obtain(target, receiver, room, quiet ? undefined : label);
      },
      sibling: (of, receiver, present) => {
        // Not news where it only goes over from the table of before.
        if (!this.#spare.has(deliveryName(of, receiver))) this.#events.sibling(of, receiver, present);
      },
    };
    return new Pool(target, receivers, room, events);
  }

  #obtain(target: Target, receiver: Receiver, room: Room, label: string | undefined): Delivery {
    const name = deliveryName(target, receiver);
    const spare = this.#spare.get(name);
    if (!spare) return new Delivery(target, receiver, this.#around, room, label);
    this.#spare.delete(name);
    if (this.#leaving.delete(spare)) this.#active.delete(spare);
    spare.retarget(target);
    return spare;
  }

  /** Lets `make` use these deliveries again; the others leave. */
  #reusing<Made>(deliveries: readonly Delivery[], make: () => Made): Made {
    for (const delivery of deliveries) {
      const name = deliveryName(delivery.target, delivery.receiver);
      // One that is leaving may have a twin in the table, which a template has led to before or since.
      if (this.#spare.has(name)) this.#leave(delivery);
      else this.#spare.set(name, delivery);
    }
    const made = make();
    for (const delivery of this.#spare.values()) this.#leave(delivery);
    this.#spare.clear();
    return made;
  }

  /** Who has a room keeps it while anything waits there, and with it the count. */
  #roomsFor(targets: readonly Target[]): Map<string, Room> {
    const rooms = new Map([...this.#rooms].filter(([, { waiting }]) => waiting > 0));
    for (const target of targets) {
      const divided = isTemplate(target) || (isPool(target) && !target.fallback);
      const room = this.#rooms.get(target.name) ?? new Room(target.queue, divided, this);
      room.limit = target.queue;
      room.divided = divided;
      rooms.set(target.name, room);
    }
    return rooms;
  }

  #leave(way: Way): void {
    this.#leaving.add(way);
    this.#active.add(way);
  }

  #tickLater(): void {
    if (this.#ticking || this.#active.size === 0) return;
    this.#ticking = this.#around.reactor.after(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    const time = now();
    for (const way of this.#active) {
      if (way.tick(time)) continue;
      this.#active.delete(way);
      if (this.#leaving.delete(way)) way.close("shutdown");
    }
    this.#ticking = undefined;
    this.#tickLater();
  }

  #fill(target: Target, flows: Uint32Array, at: number, listener: number): Way {
    const receivers = fillTarget(target, flowOf(flows, at, listener));
    const name = [target.name, ...receivers.map(formatReceiver)].join("\0");
    const known = this.#filled.get(name);
    if (known) return known.way;
    const way = this.#makeWay(target, receivers);
    this.#filled.set(name, { way, key: keyOf(target) });
    return way;
  }
}

/** The same for a delivery before and after a reload, whatever the settings of its target. */
function deliveryName({ name }: Target, receiver: Receiver): string {
  return `${name}\0${formatReceiver(receiver)}`;
}

/** The same for a template before and after a reload, whatever its settings. */
function keyOf({ name, receivers, spread }: Target): string {
  const fills = receivers.map((receiver) => receiver.kind === "unix" && receiver.fill);
  return JSON.stringify([name, receivers.map(formatReceiver), fills, spread]);
}
