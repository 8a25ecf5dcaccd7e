/**
 * Handing off without loss. A {@link Delivery} is the way to one receiver: a connected socket, and in front of it,
 * in order, the connections that it could not take yet. What cannot go now waits, bounded in number and in age;
 * nobody else is held up by it.
 */
import type { Reason } from "../model/reason.ts";
import type { Receiver, Target } from "../model/target.ts";
import { ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import { DATAGRAM_PAYLOAD, proxiedPayload, SLOT_PAYLOAD } from "../wire/handoff.ts";
import type { ProxyEnds } from "../wire/proxy.ts";
import { Fd } from "./fd.ts";
import { Queue } from "./queue.ts";
import { EVENT, type Reactor, type Watch } from "./reactor.ts";
import { SOCK } from "./socket.ts";

/** The most connections that one call accepts, routes and hands off. */
export const BATCH = 64;

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

/** The socket of whoever has registered for a slot; it stays its owner's. */
export type HolderOf = (slot: number) => number | undefined;

/** A connection that waited, and is now the caller's. */
export interface Taken {
  readonly flow: Uint32Array;
  readonly listener: number;
}

/** The peer is not there, or not there any more: connecting again may find its successor. */
const GONE: ReadonlySet<number> = new Set([
  ERRNO.ECONNREFUSED,
  ERRNO.ECONNRESET,
  ERRNO.EPIPE,
  ERRNO.ENOTCONN,
  ERRNO.ENOENT,
]);

export class Delivery {
  #target: Target;
  readonly #receiver: Receiver;
  readonly #reactor: Reactor;
  readonly #events: DeliveryEvents;
  readonly #payload: Uint8Array;
  readonly #holderOf: HolderOf;
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

  /** `receiver` is the target's own, or what its template gives for one flow. */
  constructor(
    target: Target,
    receiver: Receiver,
    reactor: Reactor,
    events: DeliveryEvents,
    holderOf: HolderOf,
  ) {
    this.#target = target;
    this.#holderOf = holderOf;
    this.#receiver = receiver;
    this.#reactor = reactor;
    this.#events = events;
    this.#payload = receiver.kind === "slot" ? SLOT_PAYLOAD : DATAGRAM_PAYLOAD;
    this.#path = cString(receiver.kind === "unix" ? receiver.path : "");
    // Each acceptor has a descriptor of its own for it: closing one must not close another's.
    if (receiver.kind === "fd") this.#use(Fd.from(native.sb_duplicate(receiver.fd), this.#target.name));
  }

  /** Takes the connection of the record at word `at`; true when it is the first, and `flush` has to be called. */
  add(flows: Uint32Array, at: number, listener: number): boolean {
    this.#queue.add(flows, at, listener);
    return this.#queue.size === this.#waiting + 1;
  }

  /** Hands off what was added since the last time; what the receiver cannot take waits behind what waits already. */
  flush(): void {
    const queue = this.#queue;
    this.#busy = true;
    if (this.#waiting === 0) {
      this.#send(queue.size);
      if (queue.size === 0) return;
    }
    if (this.#final) this.#giveUpAll("receiver-gone");
    while (queue.size > Math.max(this.#waiting, this.#target.queue)) this.#giveUpLast("queue-full");
    queue.stamp(this.#waiting, performance.now());
    this.#settle();
  }

  /**
   * To be called some ten times a second: gives up what has waited too long, looks whether the path leads somewhere
   * else now, and tries again what only time can change. Returns whether it has been of any use lately.
   */
  tick(now: number): boolean {
    const queue = this.#queue;
    const busy = this.#busy || queue.size > 0;
    this.#busy = false;
    if (busy && this.#socket && this.#moved()) this.#disconnect();
    if (queue.size === 0) return busy;
    this.#dropReset(queue.size);
    this.#stalled = false;
    while (this.#pump());
    while (queue.size > 0 && now - queue.since(0) >= this.#target.waitMs)
      this.#giveUpFirst(this.#socket ? "timeout" : "no-receiver");
    this.#settle();
    return busy;
  }

  /** Other settings for the same receiver: what waits goes on waiting, by the new ones. */
  retarget(target: Target): void {
    this.#target = target;
  }

  /** The slot has another holder, or none: what waits goes to the new one. */
  reconnect(): void {
    this.#disconnect();
    while (this.#queue.size > 0 && this.#pump());
    this.#settle();
  }

  /** What waits, in order, for somebody else to deliver. */
  takeWaiting(): Taken[] {
    const queue = this.#queue;
    const taken = Array.from({ length: queue.size }, (_, position) => {
      const at = queue.recordAt(position);
      return { flow: queue.flows.slice(at, at + FLOW_WORDS), listener: queue.listener(position) };
    });
    queue.dropFirst(queue.size);
    this.#settle();
    return taken;
  }

  /** Gives up whatever still waits. */
  close(reason: Reason): void {
    this.#giveUpAll(reason);
    this.#settle();
    this.#disconnect();
  }

  /** Sends some of what waits. Returns whether trying once more is worth it. */
  #pump(): boolean {
    const count = Math.min(this.#helping, this.#queue.size);
    // Looked at just before they go: only what has had to wait can have been reset meanwhile.
    const tried = count - this.#dropReset(count);
    const sent = this.#send(tried);
    this.#helping = sent === tried ? Math.min(BATCH, count * 2) : Math.max(1, sent);
    return sent === tried && this.#queue.size > 0;
  }

  /** How many went, of the first `count`; connects first where that is needed, and once more where it helps. */
  #send(count: number): number {
    for (let attempt = 0; attempt < 2; attempt++) {
      if (!this.#socket && !this.#connect()) return 0;
      const result = this.#sendOver(this.#socket!.number, count);
      if (result >= 0) {
        if (this.#broken) this.#report("send", 0);
        this.#queue.dropFirst(result);
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
      if (this.#receiver.kind === "fd") {
        this.#end();
        return 0;
      }
      if (attempt > 0) this.#report("send", -result);
    }
    return 0;
  }

  /** How many of the first `count` went; -errno when the first did not. One call, but for what came through a proxy. */
  #sendOver(socket: number, count: number): number {
    let sent = 0;
    while (sent < count) {
      const fds = this.#queue.fds.subarray(sent);
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

  /** Gives up those of the first `count` whose client has gone. Returns how many. */
  #dropReset(count: number): number {
    const { fds } = this.#queue;
    const closed = native.sb_close_reset(fds, count);
    if (closed <= 0) return 0;
    for (let i = 0; i < count; i++) if (fds[i]! < 0) this.#tellGivenUp("client-gone", i);
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
    if (size !== this.#waiting) this.#events.waiting(size - this.#waiting);
    this.#waiting = size;
    this.#watch?.change(size > 0 && !this.#stalled ? EVENT.out : 0);
  }

  #connect(): boolean {
    if (this.#receiver.kind === "slot") return this.#reachHolder(this.#receiver.slot);
    if (this.#receiver.kind !== "unix") return false;
    // Looked at first: if it changes in between, the next look finds another inode and connects again.
    this.#look(this.#inode);
    const result = native.sb_connect_unix(this.#path, SOCK.datagram);
    if (result >= 0) return this.#use(new Fd(result));
    this.#report("connect", -result);
    return false;
  }

  /** A duplicate, because each way to the slot closes its own. */
  #reachHolder(slot: number): boolean {
    const holder = this.#holderOf(slot);
    if (holder === undefined) return false;
    const copy = native.sb_duplicate(holder);
    if (copy >= 0) return this.#use(new Fd(copy));
    this.#report("duplicate", -copy);
    return false;
  }

  /** False, with the socket closed, when there is no room in epoll for it. */
  #use(socket: Fd): boolean {
    try {
      this.#watch = this.#reactor.watch(socket.number, 0, (events) => this.#ready(events));
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
      if (this.#receiver.kind === "fd") this.#end();
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
    if (this.#receiver.kind !== "unix") return false;
    this.#look(this.#lookedAt);
    return this.#lookedAt[0] !== this.#inode[0] || this.#lookedAt[1] !== this.#inode[1];
  }

  #look(inode: BigUint64Array): void {
    const abstract = this.#path[0] === "@".charCodeAt(0);
    // One that is not there, or not for us to see, has no inode: connecting will say which.
    if (abstract || native.sb_inode(this.#path, inode) < 0) inode.fill(0n);
  }

  #report(step: string, errno: number): void {
    const filled = this.#target.receiver !== this.#receiver;
    if (errno !== this.#broken && !filled) this.#events.way(this.#target.name, step, errno);
    this.#broken = errno;
  }

  #end(): void {
    this.#final = true;
    this.#giveUpAll("receiver-gone");
    this.#settle();
    this.#events.lost(this.#receiver);
  }

  /** The slot that its receiver has registered for. */
  get slot(): number | undefined {
    return this.#receiver.kind === "slot" ? this.#receiver.slot : undefined;
  }
}
