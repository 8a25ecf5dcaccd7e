/**
 * The data plane: a Worker that accepts, matches and hands off, and never awaits. Its whole life is the reactor's
 * loop; orders from the control plane come in by an eventfd.
 */
import { parentPort, receiveMessageOnPort } from "node:worker_threads";
import { BATCH, type Taken } from "../io/deliver.ts";
import { Deliveries } from "../io/deliveries.ts";
import { Fd } from "../io/fd.ts";
import { Headers } from "../io/headers.ts";
import { Journal } from "../io/journal.ts";
import { ANYBODY, receive } from "../io/mailbox.ts";
import { Patience } from "../io/patience.ts";
import { EVENT, Reactor, type Timer, type Watch } from "../io/reactor.ts";
import type { Reason } from "../model/reason.ts";
import { ERRNO, SysError } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { route } from "../routing/match.ts";
import { FLOW_WORDS, flowOf } from "../routing/record.ts";
import { DENIED, type Table } from "../routing/table.ts";
import type { StrictMode } from "../wire/handoff.ts";
import type { ProxyEnds } from "../wire/proxy.ts";
import { type Change, Counters, type Order, type Report, type Source } from "./orders.ts";

type ServeOrder = Extract<Order, { kind: "serve" }>;

/** Out of descriptors or memory: try again after this long, or when a connection has been handed off. */
const PAUSE_MS = 50;

/** What a call of the kernel may be short of for a while. */
const SHORT_OF: ReadonlySet<number> = new Set([ERRNO.EMFILE, ERRNO.ENFILE, ERRNO.ENOBUFS, ERRNO.ENOMEM]);

/** Accepting goes on once it has not paused for so long: while it does now and then, that is no news. */
const CALM_MS = 1000;

/** What `sb_receive_fds` says of a message that brings no connection, or none that can be had. */
const WITHOUT_CONNECTION: ReadonlySet<number> = new Set([ERRNO.EBADMSG, ERRNO.EPROTOTYPE, ERRNO.EMFILE]);

/** After this many batches of one connection, only every so manieth call asks whether more have come. */
const LONELY = 8;

/** After a pause by the number of waiting connections, accepting resumes at this part of it. */
const RESUME_AT = 0.9;

/** shutdown(2): SHUT_RD */
const SHUT_READ = 0;

interface OpenSource {
  source: Source;
  readonly fd: Fd;
  /** Absent while accepting pauses. */
  watch: Watch | undefined;
}

class Acceptor {
  readonly #port: NonNullable<typeof parentPort>;
  readonly #reactor = new Reactor();
  readonly #patience = new Patience(this.#reactor);
  readonly #flows = new Uint32Array(BATCH * FLOW_WORDS);
  readonly #journal: Journal;
  readonly #counters: Counters;
  #table: Table;
  readonly #deliveries: Deliveries;
  /** Ends that a PROXY header has told, by descriptor; a descriptor that comes anew has none. */
  readonly #proxied = new Map<number, ProxyEnds>();
  readonly #headers: Headers;
  readonly #strict: StrictMode;
  readonly #waitingMax: number;
  readonly #wake: Fd;
  #sources: OpenSource[] = [];
  #paused = false;
  /** What the last pauses were for, each of which has been told; none while all is well. */
  readonly #troubles = new Set<number>();
  #calm: Timer | undefined;
  #stopping = false;
  /** Somebody else may be about to go on with what waited: the process must be there until that is settled. */
  #released = false;
  /** Sources that are being closed, and still have something to give. */
  #draining = 0;
  #summing = false;
  /** How many of the last batches were of one connection. */
  #ones = 0;

  constructor(port: NonNullable<typeof parentPort>, order: ServeOrder) {
    this.#port = port;
    this.#journal = new Journal((entries) => this.#report({ kind: "gave-up", entries }));
    this.#counters = new Counters(order.counters);
    this.#table = order.table;
    this.#strict = order.strict;
    this.#waitingMax = order.waitingMax;
    this.#wake = new Fd(order.wake);
    this.#deliveries = new Deliveries(order.table.targets, this.#reactor, {
      gaveUp: (reason, target, flows, at, listener) => this.#gaveUp(reason, target, flows, at, listener),
      waiting: (change) => this.#counters.add("waiting", change),
      delivered: (count) => this.#counters.add("delivered", count),
      way: (receiver, step, errno) => this.#report({ kind: "way", receiver, step, errno }),
      proxied: this.#proxied,
      sibling: ({ name }, receiver, present) =>
        this.#report({ kind: "sibling", target: name, receiver, present }),
      free: () => this.#waitingMax - this.#counters.get("waiting"),
      lost: (receiver) => this.#report({ kind: "lost", receiver }),
    });
    this.#headers = new Headers(this.#reactor, {
      waiting: (change) => this.#counters.add("waiting", change),
      told: (fd, ends) => this.#proxied.set(fd, ends),
      arrived: (flow, listener) => this.#handOff(flow, 1, listener),
      refused: (reason, flow, listener) => this.#refuse(reason, flow, 0, listener),
    });
    this.#reactor.watch(this.#wake.number, EVENT.in, () => this.#obey());
    for (const holder of order.holders) this.#deliveries.hold(holder.slot, holder.fd);
    for (const source of order.sources) this.#open(source);
    this.#adopt(order.adopted);
  }

  run(): void {
    this.#reactor.run(() => this.#counters.turn());
    for (const { fd } of this.#sources) fd.close();
    this.#headers.close();
    this.#deliveries.close("shutdown");
    this.#journal.newSecond();
    this.#wake.close();
    this.#reactor[Symbol.dispose]();
    this.#report({ kind: "stopped" });
  }

  #open(source: Source): void {
    const open: OpenSource = { source, fd: new Fd(source.fd), watch: undefined };
    this.#sources.push(open);
    if (!this.#paused) this.#watch(open);
  }

  /** Pauses when there is no room in epoll for it. */
  #watch(open: OpenSource): void {
    const events = open.source.shared ? EVENT.in | EVENT.exclusive : EVENT.in;
    try {
      open.watch = this.#reactor.watch(open.source.fd, events, () => this.#take(open.source));
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#pause(error.errno);
    }
  }

  /** The heart: one batch of connections is taken, matched, and handed off. Returns how many there were, or -errno. */
  #take(source: Source): number {
    const flows = this.#flows;
    const told: [at: number, ends: ProxyEnds][] = [];
    const count =
      source.kind === "listener"
        ? native.sb_accept(
            source.fd,
            flows,
            Math.min(this.#appetite(), this.#room()),
            source.clearTransparent ? 1 : 0,
          )
        : receive(mailboxOf(source), flows, Math.min(BATCH, this.#room()), this.#strict, (at, ends) =>
            told.push([at, ends]),
          );
    if (count < 0) {
      this.#cannotTake(source, -count);
      return count;
    }
    this.#ones = count === 1 ? this.#ones + 1 : 0;
    this.#counters.add("accepted", count);
    this.#patience.took(count);
    if (this.#proxied.size > 0) this.#forgetProxied(flows, count);
    if (source.kind === "mailbox" && source.clearTransparent) clearTransparent(flows, count);
    for (const [at, ends] of told) this.#proxied.set(fdOf(flows, at), ends);
    this.#handOff(flows, source.proxy ? this.#readHeaders(flows, count, source) : count, source.listener);
    if (this.#isFull()) this.#pause(0);
    return count;
  }

  /** Their numbers were others' before. */
  #forgetProxied(flows: Uint32Array, count: number): void {
    for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) this.#proxied.delete(fdOf(flows, at));
  }

  /** Moves to the front what can be handed off now, and returns how many that are. */
  #readHeaders(flows: Uint32Array, count: number, { listener, proxy }: Source): number {
    let to = 0;
    for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) {
      if (fdOf(flows, at) >= 0 && !this.#headers.isReady(flows, at, listener, proxy!)) continue;
      flows.copyWithin(to, at, at + FLOW_WORDS);
      to += FLOW_WORDS;
    }
    return to / FLOW_WORDS;
  }

  #handOff(flows: Uint32Array, count: number, listener: number, since = 0): void {
    for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) {
      if (fdOf(flows, at) < 0) {
        const empty = WITHOUT_CONNECTION.has(-fdOf(flows, at));
        this.#gaveUp(empty ? "bad-message" : "client-gone", "", flows, at, listener);
        continue;
      }
      const verdict = route(this.#table, flows, at, listener);
      if (verdict >= 0) this.#deliveries.add(verdict, flows, at, listener, since);
      else this.#refuse(verdict === DENIED ? "denied" : "no-route", flows, at, listener);
    }
    this.#deliveries.flush();
    this.#journal.flush();
  }

  /** What waited elsewhere is looked up in our own table. */
  #adopt(adopted: readonly Taken[]): void {
    this.#counters.add("accepted", adopted.length);
    this.#deliveries.readmit(() => {
      for (const taken of adopted) this.#adoptOne(taken);
    });
  }

  #adoptOne({ flow, listener, since, headerless }: Taken): void {
    this.#proxied.delete(fdOf(flow, 0));
    if (!headerless) {
      if (isProxied(flow)) this.#proxied.set(fdOf(flow, 0), flowOf(flow, 0, listener));
      this.#handOff(flow, 1, listener, since);
      return;
    }
    const proxy = this.#sources.find(({ source }) => source.listener === listener)?.source.proxy;
    if (!proxy || this.#headers.isReady(flow, 0, listener, proxy, since)) this.#handOff(flow, 1, listener);
  }

  /**
   * Looking for more costs a system call. Where clients come one at a time it can be left to the reactor, which says
   * at once when somebody still waits.
   */
  #appetite(): number {
    return this.#ones < LONELY || this.#ones % LONELY === 0 ? BATCH : 1;
  }

  /** Not one more than may wait: descriptors are needed to reach receivers, too, or what waits would wait for ever. */
  #room(): number {
    return Math.max(1, this.#waitingMax - this.#counters.get("waiting"));
  }

  #isFull(): boolean {
    return this.#counters.get("waiting") >= this.#waitingMax;
  }

  #refuse(reason: Reason, flows: Uint32Array, at: number, listener: number): void {
    native.sb_close(fdOf(flows, at));
    this.#gaveUp(reason, "", flows, at, listener);
  }

  #gaveUp(reason: Reason, target: string, flows: Uint32Array, at: number, listener: number): void {
    this.#counters.add(reason, 1);
    this.#journal.gaveUp(reason, target, flows, at, listener);
    if (this.#summing) return;
    this.#summing = true;
    this.#reactor.after(1000, () => {
      this.#summing = false;
      this.#journal.newSecond();
    });
  }

  #cannotTake(source: Source, errno: number): void {
    if (this.#draining > 0 && source.kind === "mailbox") return; // its end is what we asked for
    if (errno === ERRNO.ENODATA || (source.kind === "mailbox" && errno === ERRNO.ECONNRESET)) {
      this.#closeSources();
      this.#report({ kind: "source-ended" });
    } else {
      this.#pause(errno);
    }
  }

  /** Connections stay in the kernel's backlog, which is where they are safe, until there is room again. */
  #pause(errno: number): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#calm?.cancel();
    if (!this.#troubles.has(errno)) this.#report({ kind: "paused", errno });
    this.#troubles.add(errno);
    for (const open of this.#sources) {
      open.watch?.cancel();
      open.watch = undefined;
    }
    this.#reactor.after(PAUSE_MS, () => this.#tryResume());
  }

  #tryResume(): void {
    if (this.#counters.get("waiting") > this.#waitingMax * RESUME_AT) {
      this.#reactor.after(PAUSE_MS, () => this.#tryResume());
      return;
    }
    this.#paused = false;
    this.#calm = this.#reactor.after(CALM_MS, () => this.#recovered());
    for (const open of this.#sources) if (!this.#paused) this.#watch(open);
  }

  #recovered(): void {
    this.#troubles.clear();
    this.#report({ kind: "resumed" });
  }

  #obey(): void {
    native.sb_eventfd_take(this.#wake.number);
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (!received) return;
      this.#carryOut(received.message as Order);
    }
  }

  #carryOut(order: Order): void {
    switch (order.kind) {
      case "serve":
        break; // the first, and only the first
      case "change":
        this.#change(order);
        break;
      case "hold":
        this.#deliveries.hold(order.slot, order.fd);
        break;
      case "release":
        this.#release();
        break;
      case "resume":
        this.#resume(order.sources, order.adopted);
        break;
      case "stop":
        this.#stop();
        break;
      case "end":
        this.#reactor.stop();
        break;
    }
  }

  /** Between two batches: every connection is looked up in one table or the other, whole. */
  #change({ table, add, keep }: Change): void {
    this.#table = table;
    this.#deliveries.replace(table.targets);
    const kept = new Map(keep.map((source) => [source.id, source]));
    // No configuration names the mailbox, and none takes it away.
    const stays = ({ source }: OpenSource) => source.kind === "mailbox" || kept.has(source.id);
    const before = this.#sources;
    this.#sources = before.filter(stays);
    for (const open of this.#sources) open.source = { ...open.source, ...kept.get(open.source.id) };
    for (const open of before) if (!stays(open)) this.#drain(open);
    for (const source of add) this.#open(source);
    if (this.#draining === 0) this.#report({ kind: "settled" });
  }

  /** Whoever takes over counts them as accepted; so do we, if they come back. */
  #release(): void {
    this.#released = true;
    this.#closeSources();
    const waiting = [...this.#deliveries.takeWaiting(), ...this.#headers.takeWaiting()];
    this.#counters.add("accepted", -waiting.length);
    this.#report({ kind: "released", waiting });
  }

  #resume(sources: readonly Source[], adopted: readonly Taken[]): void {
    this.#released = false;
    for (const source of sources) this.#open(source);
    this.#adopt(adopted);
    if (this.#stopping) this.#stop();
  }

  #stop(): void {
    this.#stopping = true;
    for (const open of this.#sources) this.#drain(open);
    this.#sources = [];
    this.#stopWhenDelivered();
  }

  /** What has reached the backlog was promised to its clients: it is accepted before the listener closes. */
  #drain(open: OpenSource): void {
    const { source } = open;
    if (source.ending === "leave") {
      closeSource(open);
      return;
    }
    open.watch?.cancel();
    // Whoever sends into a mailbox is told that nobody is here any more, and keeps what it has.
    if (source.kind === "mailbox") native.sb_shutdown(source.fd, SHUT_READ);
    else if (source.ending === "refuse") native.sb_refuse_new(source.fd);
    this.#draining++;
    this.#drainOn(open);
  }

  /** Who would find no room to wait stays in the backlog here, too. */
  #drainOn(open: OpenSource): void {
    const count = this.#isFull() ? -ERRNO.ENOBUFS : this.#take(open.source);
    if (count > 0 || SHORT_OF.has(-count)) {
      this.#reactor.after(count > 0 ? 0 : PAUSE_MS, () => this.#drainOn(open));
      return;
    }
    open.fd.close();
    if (--this.#draining === 0) this.#report({ kind: "settled" });
  }

  #stopWhenDelivered(): void {
    if (this.#released) return; // to be called again when that is settled
    if (this.#draining === 0 && this.#counters.get("waiting") <= 0) this.#reactor.stop();
    else this.#reactor.after(PAUSE_MS, () => this.#stopWhenDelivered());
  }

  #closeSources(): void {
    for (const open of this.#sources) closeSource(open);
    this.#sources = [];
  }

  #report(report: Report): void {
    this.#port.postMessage(report);
  }
}

function closeSource({ fd, watch }: OpenSource): void {
  watch?.cancel();
  fd.close();
}

function mailboxOf({ fd }: Source) {
  return { fd: { number: fd }, fromUid: ANYBODY };
}

/** What was accepted elsewhere has not been cleared yet. */
function clearTransparent(flows: Uint32Array, count: number): void {
  for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) {
    const fd = fdOf(flows, at);
    if (fd >= 0) native.sb_clear_transparent(fd);
  }
}

/** Whether the record has other ends than the connection itself: a PROXY header has told them. */
function isProxied(flow: Uint32Array): boolean {
  const real = new Uint32Array(FLOW_WORDS);
  return native.sb_flow_of(fdOf(flow, 0), real) === 0 && real.some((word, index) => word !== flow[index]);
}

/** Descriptors are signed: a lost connection has -errno there. */
function fdOf(flows: Uint32Array, at: number): number {
  return flows[at + FLOW_FD_WORD]! | 0;
}

if (parentPort) {
  const port = parentPort;
  port.once("message", (order: ServeOrder) => new Acceptor(port, order).run());
  port.postMessage({ kind: "loaded" } satisfies Report);
}
