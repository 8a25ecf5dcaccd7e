/**
 * Handing off without loss. A {@link Delivery} is the way to one receiver: a connected socket, and in front of it,
 * in order, the connections that it could not take yet. What cannot go now waits, bounded in number and in age;
 * nobody else is held up by it.
 */
import { statSync } from "node:fs";
import type { Reason } from "../model/reason.ts";
import { formatReceiver, type Receiver, type Target } from "../model/target.ts";
import { ERRNO } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import { DATAGRAM_PAYLOAD, SLOT_PAYLOAD } from "../wire/handoff.ts";
import { Fd } from "./fd.ts";
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
  /** The other end of an inherited socket is gone for good. */
  lost(receiver: Receiver): void;
}

interface Waiting {
  readonly fd: number;
  readonly flow: Uint32Array;
  readonly listener: number;
  /** performance.now() when it came. */
  readonly since: number;
  /** Tells when the client has gone; absent while it is being sent. */
  watch?: Watch;
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
  -ERRNO.ECONNREFUSED,
  -ERRNO.ECONNRESET,
  -ERRNO.EPIPE,
  -ERRNO.ENOTCONN,
  -ERRNO.ENOENT,
]);

export class Delivery {
  #target: Target;
  readonly #receiver: Receiver;
  readonly #reactor: Reactor;
  readonly #events: DeliveryEvents;
  readonly #payload: Uint8Array;
  readonly #holderOf: HolderOf;

  #socket: Fd | undefined;
  /** Device and inode that the socket is connected to. */
  #inode = "";
  /** Tells when the peer has gone, and, while something waits for it, when there is room. */
  #watch: Watch | undefined;
  readonly #waiting = new Set<Waiting>();

  /** Connections of the batch in hand, and where their records begin. */
  readonly #batch = new Int32Array(BATCH);
  readonly #at = new Int32Array(BATCH);
  #count = 0;
  #busy = true;
  /** The receiver's queue is full (EAGAIN), and EPOLLOUT will tell when it no longer is. */
  #full = false;
  /** The inherited socket has lost its peer. */
  #final = false;
  /** Why the last connect failed; 0 when it did not. */
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
    // Each acceptor has a descriptor of its own for it: closing one must not close another's.
    if (receiver.kind === "fd") this.#use(Fd.from(native.sb_duplicate(receiver.fd), this.#name));
  }

  /** Adds a connection to the batch; true when it is the first, and `flush` has to be called. */
  add(flows: Uint32Array, at: number): boolean {
    this.#batch[this.#count] = flows[at + FLOW_FD_WORD]!;
    this.#at[this.#count] = at;
    return this.#count++ === 0;
  }

  /** Hands the batch off; what the receiver cannot take waits behind what waits already. */
  flush(flows: Uint32Array, listener: number): void {
    const count = this.#count;
    this.#count = 0;
    this.#busy = true;
    const sent = this.#waiting.size === 0 ? this.#send(this.#batch, count) : 0;
    for (let i = sent; i < count; i++) this.#enqueue(flows, this.#at[i]!, listener);
    if (sent === count) return;
    if (this.#full) this.#awaitRoom();
    else this.#pump();
  }

  /**
   * To be called some ten times a second: gives up what has waited too long, looks whether the path leads somewhere
   * else now, and tries again what only time can change. Returns whether it has been of any use lately.
   */
  tick(now: number): boolean {
    const busy = this.#busy || this.#waiting.size > 0;
    this.#busy = false;
    if (busy && this.#socket && this.#moved()) this.#disconnect();
    if (this.#waiting.size > 0) this.#pump();
    for (const waiting of this.#waiting) {
      if (now - waiting.since < this.#target.waitMs) break;
      this.#giveUp(waiting, this.#socket ? "timeout" : "no-receiver");
    }
    return busy;
  }

  /** Other settings for the same receiver: what waits goes on waiting, by the new ones. */
  retarget(target: Target): void {
    this.#target = target;
  }

  /** The slot has another holder, or none: what waits goes to the new one. */
  reconnect(): void {
    this.#disconnect();
    this.#pump();
  }

  /** What waits, in order, for somebody else to deliver. */
  takeWaiting(): Taken[] {
    return [...this.#waiting].map((waiting) => {
      // A descriptor that leaves with its epoll registration could never be taken out of epoll again.
      waiting.watch?.cancel();
      this.#forget(waiting);
      return { flow: waiting.flow, listener: waiting.listener };
    });
  }

  /** Gives up whatever still waits. */
  close(reason: Reason): void {
    for (const waiting of this.#waiting) this.#giveUp(waiting, reason);
    this.#disconnect();
  }

  /** How many went, in order, from the front; connects first where that is needed, and once more where it helps. */
  #send(fds: Int32Array, count: number): number {
    for (let attempt = 0; attempt < 2; attempt++) {
      if (!this.#socket && !this.#connect()) return 0;
      const result = native.sb_send_fds(
        this.#socket!.number,
        fds,
        count,
        this.#payload,
        this.#payload.length,
      );
      this.#full = result === -ERRNO.EAGAIN;
      if (result >= 0) {
        this.#events.delivered(result);
        return result;
      }
      // ETOOMANYREFS and ENOBUFS pass with time, and EPOLLOUT stays set meanwhile: the tick tries again.
      if (!GONE.has(result)) return 0;
      this.#disconnect();
      if (this.#receiver.kind === "fd") return this.#end();
    }
    return 0;
  }

  /** Sends what waits, in growing helpings: how much room there is only shows when something does not fit. */
  #pump(): void {
    const helping = this.#batch;
    for (let size = 1; this.#waiting.size > 0; size = Math.min(size * 2, BATCH)) {
      const taken: Waiting[] = [];
      for (const waiting of this.#waiting) {
        if (taken.length === size) break;
        // A descriptor that leaves with its epoll registration could never be taken out of epoll again.
        waiting.watch?.cancel();
        delete waiting.watch;
        helping[taken.length] = waiting.fd;
        taken.push(waiting);
      }
      const sent = this.#send(helping, taken.length);
      for (const waiting of taken.slice(0, sent)) this.#forget(waiting);
      for (const waiting of taken.slice(sent)) if (this.#waiting.has(waiting)) this.#watchClient(waiting);
      if (sent === 0) break;
      if (sent < taken.length) size = 1;
    }
    this.#awaitRoom();
  }

  #enqueue(flows: Uint32Array, at: number, listener: number): void {
    const flow = flows.slice(at, at + FLOW_WORDS);
    const waiting: Waiting = { fd: flow[FLOW_FD_WORD]!, flow, listener, since: performance.now() };
    const refusal = this.#final
      ? "receiver-gone"
      : this.#waiting.size >= this.#target.queue
        ? "queue-full"
        : undefined;
    if (refusal) {
      native.sb_close(waiting.fd);
      this.#events.gaveUp(refusal, this.#name, flow, 0, listener);
      return;
    }
    this.#waiting.add(waiting);
    this.#events.waiting(1);
    this.#watchClient(waiting);
  }

  /** A reset shows as ERR and HUP; a client that has only finished sending shows neither, and stays. */
  #watchClient(waiting: Waiting): void {
    waiting.watch = this.#reactor.watch(waiting.fd, 0, () => this.#giveUp(waiting, "client-gone"));
  }

  #giveUp(waiting: Waiting, reason: Reason): void {
    waiting.watch?.cancel();
    native.sb_close(waiting.fd);
    this.#forget(waiting);
    this.#events.gaveUp(reason, this.#name, waiting.flow, 0, waiting.listener);
    if (this.#waiting.size === 0) this.#awaitRoom();
  }

  #forget(waiting: Waiting): void {
    if (this.#waiting.delete(waiting)) this.#events.waiting(-1);
  }

  /** Listens for room exactly while something waits for it: an idle socket is always writable. */
  #awaitRoom(): void {
    this.#watch?.change(this.#full && this.#waiting.size > 0 ? EVENT.out : 0);
  }

  #connect(): boolean {
    if (this.#receiver.kind === "slot") return this.#reachHolder(this.#receiver.slot);
    if (this.#receiver.kind !== "unix") return false;
    const { path } = this.#receiver;
    // Looked at first: if it changes in between, the next look finds another inode and connects again.
    this.#inode = inodeOf(path);
    const result = native.sb_connect_unix(cString(path), SOCK.datagram);
    const errno = Math.max(0, -result);
    if (errno !== this.#broken) this.#events.way(this.#name, "connect", errno);
    this.#broken = errno;
    if (errno) return false;
    this.#use(new Fd(result));
    return true;
  }

  /** A duplicate, because each way to the slot closes its own. */
  #reachHolder(slot: number): boolean {
    const holder = this.#holderOf(slot);
    if (holder !== undefined) this.#use(Fd.from(native.sb_duplicate(holder), this.#name));
    return holder !== undefined;
  }

  #use(socket: Fd): void {
    this.#socket = socket;
    this.#full = false;
    this.#watch = this.#reactor.watch(socket.number, 0, (events) => {
      if (events & (EVENT.error | EVENT.hangup)) {
        this.#disconnect();
        if (this.#receiver.kind === "fd") this.#end();
      }
      this.#pump();
    });
  }

  #disconnect(): void {
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#socket?.close();
    this.#socket = undefined;
  }

  /** A connected socket goes on reaching the old inode, whatever is bound or renamed over its path. */
  #moved(): boolean {
    return this.#receiver.kind === "unix" && inodeOf(this.#receiver.path) !== this.#inode;
  }

  #end(): number {
    this.#final = true;
    for (const waiting of this.#waiting) this.#giveUp(waiting, "receiver-gone");
    this.#events.lost(this.#receiver);
    return 0;
  }

  /** The slot that its receiver has registered for. */
  get slot(): number | undefined {
    return this.#receiver.kind === "slot" ? this.#receiver.slot : undefined;
  }

  get #name(): string {
    return this.#target.receiver === this.#receiver ? this.#target.name : formatReceiver(this.#receiver);
  }
}

/** Device and inode; the same empty text for a name that has none (abstract, or not there). */
function inodeOf(path: string): string {
  if (path.startsWith("@")) return "";
  try {
    const info = statSync(path);
    return `${info.dev}:${info.ino}`;
  } catch {
    return ""; // not there, or not for us to see: connecting will say which
  }
}
