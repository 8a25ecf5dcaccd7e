/**
 * The data plane: a Worker that accepts, matches and hands off, and never awaits. Its whole life is the reactor's
 * loop; orders from the control plane come in by an eventfd.
 */
import { parentPort, receiveMessageOnPort } from "node:worker_threads";
import { BATCH } from "../io/deliver.ts";
import { Deliveries } from "../io/deliveries.ts";
import { Fd } from "../io/fd.ts";
import { Journal } from "../io/journal.ts";
import { EVENT, Reactor, type Watch } from "../io/reactor.ts";
import type { Reason } from "../model/reason.ts";
import { ERRNO } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { route } from "../routing/match.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import { DENIED, type Table } from "../routing/table.ts";
import type { StrictMode } from "../wire/handoff.ts";
import { Counters, type Order, type Report, type Source } from "./orders.ts";

type ServeOrder = Extract<Order, { kind: "serve" }>;

/** Out of descriptors or memory: try again after this long, or when a connection has been handed off. */
const PAUSE_MS = 50;

/** After a pause by the number of waiting connections, accepting resumes at this part of it. */
const RESUME_AT = 0.9;

interface OpenSource {
  readonly source: Source;
  readonly fd: Fd;
  /** Absent while accepting pauses. */
  watch: Watch | undefined;
}

class Acceptor {
  readonly #port: NonNullable<typeof parentPort>;
  readonly #reactor = new Reactor();
  readonly #flows = new Uint32Array(BATCH * FLOW_WORDS);
  readonly #journal: Journal;
  readonly #counters: Counters;
  readonly #table: Table;
  readonly #deliveries: Deliveries;
  readonly #strict: StrictMode;
  readonly #waitingMax: number;
  readonly #wake: Fd;
  #sources: OpenSource[] = [];
  #paused = false;
  /** What the last pause was for, until accepting has worked again; `undefined` while all is well. */
  #trouble: number | undefined;
  #stopping = false;
  #summing = false;

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
      lost: (receiver) => this.#report({ kind: "lost", receiver }),
    });
    this.#reactor.watch(this.#wake.number, EVENT.in, () => this.#obey());
    for (const source of order.sources) this.#open(source);
  }

  run(): void {
    this.#reactor.run(() => this.#counters.turn());
    for (const { fd } of this.#sources) fd.close();
    this.#deliveries.close("shutdown");
    this.#journal.newSecond();
    this.#wake.close();
    this.#reactor[Symbol.dispose]();
    this.#report({ kind: "stopped" });
  }

  #open(source: Source): void {
    const open: OpenSource = { source, fd: new Fd(source.fd), watch: undefined };
    this.#sources.push(open);
    this.#watch(open);
  }

  #watch(open: OpenSource): void {
    const { source } = open;
    const events = source.shared ? EVENT.in | EVENT.exclusive : EVENT.in;
    open.watch = this.#reactor.watch(source.fd, events, () => this.#take(source));
  }

  /** The heart: one batch of connections is taken, matched, and handed off. Returns how many there were. */
  #take(source: Source): number {
    const flows = this.#flows;
    const count =
      source.kind === "listener"
        ? native.sb_accept(source.fd, flows, BATCH, source.clearTransparent ? 1 : 0)
        : native.sb_receive_fds(source.fd, flows, BATCH, this.#strict);
    if (count < 0) {
      this.#cannotTake(source, -count);
      return 0;
    }
    if (count > 0 && this.#trouble !== undefined) this.#recovered();
    this.#counters.add("accepted", count);
    for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) {
      if (fdOf(flows, at) < 0) {
        this.#gaveUp("client-gone", "", flows, at, source.listener);
        continue;
      }
      const verdict = route(this.#table, flows, at, source.listener);
      if (verdict >= 0) this.#deliveries.add(verdict, flows, at, source.listener);
      else this.#refuse(verdict === DENIED ? "denied" : "no-route", flows, at, source.listener);
    }
    this.#deliveries.flush(flows, source.listener);
    this.#journal.flush();
    if (this.#counters.get("waiting") >= this.#waitingMax) this.#pause(0);
    return count;
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
    if (this.#trouble !== errno) this.#report({ kind: "paused", errno });
    this.#trouble = errno;
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
    for (const open of this.#sources) this.#watch(open);
  }

  #recovered(): void {
    this.#trouble = undefined;
    this.#report({ kind: "resumed" });
  }

  #obey(): void {
    native.sb_eventfd_take(this.#wake.number);
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (!received) return;
      const order = received.message as Order;
      if (order.kind === "end") this.#reactor.stop();
      if (order.kind === "stop") this.#stop();
    }
  }

  /** What has reached the backlog was promised to its clients: it is accepted before the listeners close. */
  #stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const { source } of this.#sources) while (this.#take(source) > 0);
    this.#closeSources();
    this.#stopWhenDelivered();
  }

  #stopWhenDelivered(): void {
    if (this.#counters.get("waiting") <= 0) this.#reactor.stop();
    else this.#reactor.after(PAUSE_MS, () => this.#stopWhenDelivered());
  }

  #closeSources(): void {
    for (const { fd, watch } of this.#sources) {
      watch?.cancel();
      fd.close();
    }
    this.#sources = [];
  }

  #report(report: Report): void {
    this.#port.postMessage(report);
  }
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
