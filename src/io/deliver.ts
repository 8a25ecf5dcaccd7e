/**
 * Handing off without loss. A {@link Delivery} is the way to one receiver: a connected socket, and in front of it,
 * in order, the connections that it could not take yet. What cannot go now waits, bounded in number and in age;
 * nobody else is held up by it.
 */
import type { Reason } from "../model/reason.ts";
import { formatReceiver, type Receiver, type Target } from "../model/target.ts";
import { ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import type { Member } from "../routing/choose.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import { seedOf } from "../routing/rendezvous.ts";
import type { Room } from "../routing/room.ts";
import { DATAGRAM_PAYLOAD, proxiedPayload, SLOT_PAYLOAD } from "../wire/handoff.ts";
import type { ProxyEnds } from "../wire/proxy.ts";
import { now } from "./clock.ts";
import { Fd } from "./fd.ts";
import { Queue } from "./queue.ts";
import { EVENT, type Reactor, type Watch } from "./reactor.ts";
import { SOCK } from "./socket.ts";

/** The most connections that one call accepts, routes and hands off. */
export const BATCH = 64;

/** In a long queue, at how many clients one tick looks: each look costs some 0.2 µs. */
const LOOKED_AT_MAX = 4096;

/** What a delivery tells the acceptor that owns it. */
export interface DeliveryEvents {
  /** A connection was given up, and is closed already. `flows` holds its record at word `at`. */
  gaveUp(reason: Reason, target: string, flows: Uint32Array, at: number, listener: number): void;
  /** The number of waiting connections has changed by this many. */
  waiting(change: number): void;
  delivered(count: number): void;
  /** The way to a receiver has broken (errno > 0, with the step that failed), or stands again (0). */
  way(receiver: string, step: string, errno: number): void;
  /** The true ends of connections that came through a proxy, by descriptor: they travel on with them. */
  readonly proxied: ReadonlyMap<number, ProxyEnds>;
  /** The other end of an inherited socket is gone for good. */
  lost(receiver: Receiver): void;
}

/** What all deliveries of an acceptor share. */
export interface Surroundings {
  readonly reactor: Reactor;
  readonly events: DeliveryEvents;
  /** The socket of whoever has registered for a slot; it stays its owner's. */
  holderOf(slot: number): number | undefined;
}

/** Where connections of one target go: a delivery, or several (pool.ts). */
export interface Way {
  /**
   * Takes the connection of the record at word `at`; true when it is the first, and `flush` has to be called.
   * `since`: when it began to wait; 0: it has just come.
   */
  add(flows: Uint32Array, at: number, listener: number, since: number): boolean;
  /** Hands off what was added since the last time. */
  flush(): void;
  /** To be called some ten times a second. Returns whether it has been of any use lately. */
  tick(now: number): boolean;
  /** Other settings for the same receivers: what waits goes on waiting, by the new ones. */
  retarget(target: Target): void;
  /** What waits, in order, for somebody else to deliver. */
  takeWaiting(): Taken[];
  /** Gives up whatever still waits. */
  close(reason: Reason): void;
  readonly target: Target;
  /** All that it consists of. */
  readonly deliveries: readonly Delivery[];
}

/** A connection that waited, and is now the caller's. */
export interface Taken {
  /** Its record, descriptor included (routing/record.ts). */
  readonly flow: Uint32Array;
  readonly listener: number;
  /** When it began to wait (clock.ts). */
  readonly since: number;
  /** Whether what it waits for is its PROXY header. */
  readonly headerless: boolean;
}

/** The peer is not there, or not there any more: connecting again may find its successor. */
const GONE: ReadonlySet<number> = new Set([
  ERRNO.ECONNREFUSED,
  ERRNO.ECONNRESET,
  ERRNO.EPIPE,
  ERRNO.ENOTCONN,
  ERRNO.ENOENT,
]);

export class Delivery implements Way, Member {
  #target: Target;
  readonly receiver: Receiver;
  readonly seed: number;
  readonly #around: Surroundings;
  readonly #events: DeliveryEvents;
  readonly #payload: Uint8Array;
  /** Shared with the other ways of the target. */
  readonly #room: Room;
  /** What log lines call it; `undefined`: nothing, because there may be any number like it. */
  readonly #label: string | undefined;
  /** The receiver's path, for the helper; empty where it has none. */
  readonly #path: Uint8Array;

  #socket: Fd | undefined;
  /** Device and inode that the socket is connected to; zeros where there is no file (abstract, or not there). */
  #inode = new BigUint64Array(2);
  #lookedAt = new BigUint64Array(2);
  /** Tells, while something waits, when the receiver has room; and when it has gone. */
  #watch: Watch | undefined;

  readonly #queue = new Queue();
  /** How many of the queue are known to wait; the others have just been added. */
  #waiting = 0;
  /** How many to try at once when there is room: what went the last time, and more when all of it did. */
  #helping = 1;
  #busy = true;
  /** Sending failed for a reason that only time changes (ETOOMANYREFS, ENOBUFS …): EPOLLOUT says nothing of it. */
  #stalled = false;
  /** The inherited socket has lost its peer. */
  #final = false;
  /** Why the last attempt failed; 0 when it did not. */
  #broken = 0;
  /** Whether the last attempt to connect failed. */
  #missing = false;
  /** How far the last tick has looked for clients that have gone. */
  #lookedTo = 0;
  /** Whether anything has gone since the last tick, and whether in vain something waited from one to the next. */
  #took = false;
  #stuck = false;
  /** Whether some waited elsewhere before, and maybe longer than those in front of them. */
  #mixed = false;

  /** `receiver` is one of the target's, or what its template gives for one flow. */
  constructor(
    target: Target,
    receiver: Receiver,
    around: Surroundings,
    room: Room,
    label: string | undefined,
  ) {
    this.#target = target;
    this.#around = around;
    this.#room = room;
    this.#label = label;
    this.receiver = receiver;
    this.seed = seedOf(formatReceiver(receiver));
    this.#events = around.events;
    this.#payload = receiver.kind === "slot" ? SLOT_PAYLOAD : DATAGRAM_PAYLOAD;
    this.#path = cString(receiver.kind === "unix" ? receiver.path : "");
    // Each acceptor has a descriptor of its own for it: closing one must not close another's.
    if (receiver.kind === "fd") this.#use(Fd.from(native.sb_duplicate(receiver.fd), this.#target.name));
  }

  get deliveries(): readonly Delivery[] {
    return [this];
  }

  get target(): Target {
    return this.#target;
  }

  get missing(): boolean {
    return this.#missing;
  }

  get waiting(): number {
    return this.#waiting;
  }

  get load(): number {
    return this.#queue.size;
  }

  get stuck(): boolean {
    return this.#stuck;
  }

  add(flows: Uint32Array, at: number, listener: number, since = 0): boolean {
    this.#queue.add(flows, at, listener, since);
    if (since > 0) this.#mixed = true;
    return this.#queue.size === this.#waiting + 1;
  }

  /** What the receiver cannot take waits behind what waits already. */
  flush(): void {
    if (this.handOff()) this.keep();
  }

  /** Sends what was added. Returns whether some is left, to be kept or taken over by another. */
  handOff(): boolean {
    const queue = this.#queue;
    // After a pause nobody has looked for some time; in between, the ticks do.
    if (!this.#busy && this.#socket && this.#moved()) this.#disconnect();
    this.#busy = true;
    if (this.#waiting === 0) {
      this.#send(queue.size);
      if (queue.size === 0) return false;
    }
    queue.stamp(this.#waiting, now());
    return true;
  }

  /** Lets what is left wait, as far as there is room. */
  keep(): void {
    const queue = this.#queue;
    if (this.#final) this.#giveUpAll("receiver-gone");
    if (queue.size > this.#waiting) {
      const most = this.#waiting + this.#room.more(this.#waiting);
      while (queue.size > most) this.#giveUpLast("queue-full");
    }
    this.#settle();
  }

  /** Takes over the first `count` of what is left at another, and hands them off. To be followed by `keep` at both. */
  takeOver(other: Delivery, count: number): void {
    this.#busy = this.#mixed = true;
    other.#queue.moveTo(this.#queue, count);
    other.#countWaiting(Math.max(0, other.#waiting - count));
    if (this.#waiting === 0) this.#pumpAll();
  }

  /**
   * Gives up what has waited too long, looks whether the path leads somewhere else now, and tries again what only time
   * can change.
   */
  tick(now: number): boolean {
    const busy = this.work(now);
    this.keep();
    return busy;
  }

  /** The same, where what is left may be taken over by another before it is kept. */
  work(now: number): boolean {
    const queue = this.#queue;
    const busy = this.#busy || queue.size > 0;
    this.#busy = false;
    this.#stuck = queue.size > 0 && !this.#took;
    this.#took = false;
    if (busy && this.#socket && this.#moved()) this.#disconnect();
    if (queue.size === 0) return busy;
    this.#lookForReset();
    this.#stalled = false;
    this.#pumpAll();
    this.#dropOld(now);
    this.#settle();
    return busy;
  }

  retarget(target: Target): void {
    this.#target = target;
  }

  /** Finds out whether the receiver is there, where that is in doubt. */
  probe(): void {
    if (this.#socket || this.#final || !this.#connect()) return;
    if (this.#broken) this.#report("connect", 0);
  }

  /** The slot has another holder, or none: what waits goes to the new one. */
  reconnect(): void {
    this.#disconnect();
    this.probe();
    this.#pumpAll();
    this.#settle();
  }

  takeWaiting(): Taken[] {
    const queue = this.#queue;
    const taken = Array.from({ length: queue.size }, (_, position) => {
      const at = queue.recordAt(position);
      const flow = queue.flows.slice(at, at + FLOW_WORDS);
      const [listener, since] = [queue.listener(position), queue.since(position)];
      return { flow, listener, since, headerless: false };
    });
    queue.dropFirst(queue.size);
    this.#settle();
    return taken;
  }

  close(reason: Reason): void {
    this.#giveUpAll(reason);
    this.#settle();
    this.#disconnect();
  }

  #pumpAll(): void {
    while (this.#queue.size > 0 && this.#pump());
  }

  /** Sends some of what waits, which must not be nothing. Returns whether all that was tried has gone. */
  #pump(): boolean {
    const count = Math.min(this.#helping, this.#queue.size);
    // Looked at just before they go: only what has had to wait can have been reset meanwhile.
    const tried = count - this.#dropReset(0, count);
    const sent = this.#send(tried);
    this.#helping = sent === tried ? Math.min(BATCH, count * 2) : Math.max(1, sent);
    return sent === tried;
  }

  /** How many went, of the first `count`; connects first where that is needed, and once more where it helps. */
  #send(count: number): number {
    for (let attempt = 0; attempt < 2; attempt++) {
      if (!this.#socket && !this.#connect()) return 0;
      const result = this.#sendOver(this.#socket!.number, count);
      if (result >= 0) {
        if (this.#broken) this.#report("send", 0);
        this.#queue.dropFirst(result);
        this.#took = true;
        this.#stuck = false;
        this.#events.delivered(result);
        return result;
      }
      if (result === -ERRNO.EAGAIN) return 0;
      if (!GONE.has(-result)) {
        this.#stalled = true;
        this.#report("send", -result);
        return 0;
      }
      this.#disconnect();
      if (this.receiver.kind === "fd") {
        this.#end();
        return 0;
      }
      if (attempt > 0) this.#report("send", -result);
    }
    return 0;
  }

  /** How many of the first `count` went; -errno when the first did not. One call, but for what came through a proxy. */
  #sendOver(socket: number, count: number): number {
    const all = this.#queue.fds;
    let sent = 0;
    while (sent < count) {
      const fds = sent === 0 ? all : all.subarray(sent);
      const { payload, alike } = this.#payloadOf(fds, count - sent);
      const result = native.sb_send_fds(socket, fds, alike, payload, payload.length);
      if (result < 0) return sent || result;
      sent += result;
      if (result < alike) break;
    }
    return sent;
  }

  /** What the first of them is sent with, and how many from it on go with the same. */
  #payloadOf(fds: Int32Array, count: number): { payload: Uint8Array; alike: number } {
    const { proxied } = this.#events;
    if (proxied.size === 0) return { payload: this.#payload, alike: count };
    const ends = proxied.get(fds[0]!);
    if (ends) return { payload: proxiedPayload(this.#payload, ends), alike: 1 };
    let alike = 1;
    while (alike < count && !proxied.has(fds[alike]!)) alike++;
    return { payload: this.#payload, alike };
  }

  /** All of a queue, or the next part of a long one. */
  #lookForReset(): void {
    const { size } = this.#queue;
    const from = this.#lookedTo < size ? this.#lookedTo : 0;
    const count = Math.min(size - from, LOOKED_AT_MAX);
    this.#lookedTo = from + count - this.#dropReset(from, count);
  }

  /** Gives up those of `count`, from the one at `first` on, whose client has gone. Returns how many. */
  #dropReset(first: number, count: number): number {
    const { fds } = this.#queue;
    const closed = native.sb_close_reset(first === 0 ? fds : fds.subarray(first), count);
    if (closed <= 0) return 0;
    for (let i = first; i < first + count; i++) if (fds[i]! < 0) this.#tellGivenUp("client-gone", i);
    this.#queue.dropClosed();
    return closed;
  }

  #giveUpAll(reason: Reason): void {
    while (this.#queue.size > 0) this.#giveUpFirst(reason);
  }

  #giveUpFirst(reason: Reason): void {
    native.sb_close(this.#queue.fds[0]!);
    this.#tellGivenUp(reason, 0);
    this.#queue.dropFirst(1);
  }

  /** Gives up what has waited too long. */
  #dropOld(now: number): void {
    const queue = this.#queue;
    const { fds } = queue;
    let dropped = false;
    for (let position = 0; position < queue.size; position++) {
      if (now - queue.since(position) < this.#target.waitMs) {
        if (this.#mixed) continue;
        break;
      }
      native.sb_close(fds[position]!);
      this.#tellGivenUp(this.#socket ? "timeout" : "no-receiver", position);
      fds[position] = -1;
      dropped = true;
    }
    if (dropped) queue.dropClosed();
  }

  #giveUpLast(reason: Reason): void {
    const position = this.#queue.size - 1;
    native.sb_close(this.#queue.fds[position]!);
    this.#tellGivenUp(reason, position);
    this.#queue.dropLast();
  }

  #tellGivenUp(reason: Reason, position: number): void {
    const { flows } = this.#queue;
    const [at, listener] = [this.#queue.recordAt(position), this.#queue.listener(position)];
    // By the name of a template, not of each path: or whoever walks through a prefix fills the log.
    this.#events.gaveUp(reason, this.#target.name, flows, at, listener);
  }

  /** After any change: says how many wait, and listens for room exactly while something waits for it. */
  #settle(): void {
    const { size } = this.#queue;
    if (size !== this.#waiting) this.#countWaiting(size);
    if (size === 0) this.#mixed = false;
    this.#watch?.change(size > 0 && !this.#stalled ? EVENT.out : 0);
  }

  #countWaiting(count: number): void {
    this.#events.waiting(count - this.#waiting);
    this.#room.waiting += count - this.#waiting;
    this.#waiting = count;
  }

  #connect(): boolean {
    this.#missing = !this.#reach();
    return !this.#missing;
  }

  #reach(): boolean {
    if (this.receiver.kind === "slot") return this.#reachHolder(this.receiver.slot);
    if (this.receiver.kind !== "unix") return false;
    // Looked at first: if it changes in between, the next look finds another inode and connects again.
    this.#look(this.#inode);
    const result = native.sb_connect_unix(this.#path, SOCK.datagram);
    if (result >= 0) return this.#use(new Fd(result));
    this.#report("connect", -result);
    return false;
  }

  /** A duplicate, because each way to the slot closes its own. */
  #reachHolder(slot: number): boolean {
    const holder = this.#around.holderOf(slot);
    if (holder === undefined) return false;
    const copy = native.sb_duplicate(holder);
    if (copy >= 0) return this.#use(new Fd(copy));
    this.#report("duplicate", -copy);
    return false;
  }

  /** False, with the socket closed, when there is no room in epoll for it. */
  #use(socket: Fd): boolean {
    try {
      this.#watch = this.#around.reactor.watch(socket.number, 0, (events) => this.#ready(events));
      this.#socket = socket;
      return true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      socket.close();
      this.#report("watch", error.errno);
      return false;
    }
  }

  #ready(events: number): void {
    if (events & (EVENT.error | EVENT.hangup)) {
      this.#disconnect();
      if (this.receiver.kind === "fd") this.#end();
    }
    // One helping: when there is room for more, the reactor will say so again, and others have their turn.
    if (this.#queue.size > 0) this.#pump();
    this.#settle();
  }

  #disconnect(): void {
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#socket?.close();
    this.#socket = undefined;
    this.#helping = 1;
  }

  /** A connected socket goes on reaching the old inode, whatever is bound or renamed over its path. */
  #moved(): boolean {
    if (this.receiver.kind !== "unix") return false;
    this.#look(this.#lookedAt);
    return this.#lookedAt[0] !== this.#inode[0] || this.#lookedAt[1] !== this.#inode[1];
  }

  #look(inode: BigUint64Array): void {
    const abstract = this.#path[0] === "@".charCodeAt(0);
    // One that is not there, or not for us to see, has no inode: connecting will say which.
    if (abstract || native.sb_inode(this.#path, inode) < 0) inode.fill(0n);
  }

  #report(step: string, errno: number): void {
    if (errno !== this.#broken && this.#label !== undefined) this.#events.way(this.#label, step, errno);
    this.#broken = errno;
  }

  /** What waits is given up at the next `keep`, where no other has taken it over by then. */
  #end(): void {
    this.#final = this.#missing = true;
    this.#events.lost(this.receiver);
  }

  /** The slot that its receiver has registered for. */
  get slot(): number | undefined {
    return this.receiver.kind === "slot" ? this.receiver.slot : undefined;
  }
}
