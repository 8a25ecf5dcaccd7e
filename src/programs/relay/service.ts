/** One relay: takes connections from its inlet as its limits allow, and keeps them until they end. */
import type { RelaySettings } from "../../config/relay.ts";
import { BATCH } from "../../io/deliver.ts";
import type { Fd } from "../../io/fd.ts";
import { LimitedLog } from "../../io/limited-log.ts";
import type { Names } from "../../io/names.ts";
import { EVENT, type Reactor, type Timer, type Watch } from "../../io/reactor.ts";
import type { Relays } from "../../io/relays.ts";
import { formatUpstream } from "../../model/upstream.ts";
import { ERRNO, errnoName, SysError } from "../../native/errno.ts";
import { FLOW_FD_WORD } from "../../native/structs.ts";
import { FLOW_WORDS } from "../../routing/record.ts";
import { DROPPED } from "../inetd.ts";
import { SHORTAGE_RETRY_MS, SHORTAGES } from "./approach.ts";
import { Balancer } from "./balance.ts";
import { Connection, type Surroundings } from "./connection.ts";
import type { Inlet } from "./inlet.ts";
import type { RelayLog } from "./log.ts";
import type { Ending } from "./reasons.ts";
import type { Tally } from "./tally.ts";

/** What the services of one process share. */
export interface Shared {
  readonly reactor: Reactor;
  readonly names: Names;
  readonly relays: Relays;
  readonly lines: RelayLog;
  log(line: string): void;
  uniqueId(): Uint8Array;
  /** How many more connections there are descriptors for, in all services. */
  capacity(): number;
  /** Something to connect with is wanting: nobody shall take connections for a moment. */
  shortage(errno: number): void;
  /** A connection has ended, so that there may be room for another. */
  room(): void;
  /** The service has no connection left, and will get none. */
  finished(service: Service): void;
}

/** The clock of timeouts: a tenth of the shortest, within these bounds. */
const TICK_MS = { least: 10, most: 1000 };
/** How often a server that has gone is asked whether it is back. */
const RENEW_MS = 500;
/** By what taking connections gave. */
const LOST_FOR: ReadonlyMap<number, string> = new Map([
  [ERRNO.ENODATA, "the server has gone"],
  [ERRNO.EACCES, "the server refused"],
]);
/** What asking gives as long as it is not. */
const STILL_GONE: ReadonlySet<number> = new Set([ERRNO.ECONNREFUSED, ERRNO.ENOENT, ERRNO.EAGAIN]);
/** A limit that is reached again and again is told this often. */
const REPEAT_MS = 10_000;

export class Service implements Surroundings {
  readonly settings: RelaySettings;
  readonly inlet: Inlet;
  readonly tally: Tally;
  readonly sockets: Fd | undefined;
  readonly #shared: Shared;
  readonly #connections = new Set<Connection>();
  readonly #balancer: Balancer;
  readonly #flows = new Uint32Array(BATCH * FLOW_WORDS);
  readonly #tickMs: number;
  readonly #limited = new LimitedLog(
    (line) => this.#tell(line),
    (ms, run) => void this.reactor.after(ms, run),
  );
  #watch: Watch | undefined;
  #ticking: Timer | undefined;
  #retry: Timer | undefined;
  /** Why it is not registered any more, as was told. */
  #lostFor: string | undefined;
  #renewing: Timer | undefined;
  /** `open`: takes; `stopping`: takes what has come; `closed`: nothing more will come. */
  #state: "open" | "stopping" | "closed" = "open";
  /** Its inlet is a successor's. */
  #leaves = false;
  #limitTold = Number.NEGATIVE_INFINITY;
  /** Its source of connections ended by itself. */
  peerGone = false;

  /** `tally`: of the inlet. */
  constructor(shared: Shared, settings: RelaySettings, inlet: Inlet, tally: Tally, sockets: Fd | undefined) {
    this.#shared = shared;
    this.settings = settings;
    this.inlet = inlet;
    this.sockets = sockets;
    this.tally = tally;
    tally.adopt(settings);
    this.#balancer = new Balancer(settings.balance, tally.targets, settings.retryMs);
    const { connect, idle, halfClosed, total } = settings.timeouts;
    const times = [connect, idle, halfClosed, total, settings.proxy.waitMs];
    const shortest = Math.min(...times.filter((ms) => ms > 0));
    this.#tickMs = Math.min(TICK_MS.most, Math.max(TICK_MS.least, shortest / 10));
  }

  get reactor(): Reactor {
    return this.#shared.reactor;
  }

  get names(): Names {
    return this.#shared.names;
  }

  get relays(): Relays {
    return this.#shared.relays;
  }

  /** How many more there may be. Those of services before it count as well. */
  get #room(): number {
    return this.settings.max - this.tally.size;
  }

  get running(): number {
    return this.#connections.size;
  }

  /** `web: 12 taken, 1 running, 10 closed, 1 connect-failed`; with those of services before it. */
  get totals(): string {
    return `${this.settings.name}: ${this.tally.totals}`;
  }

  /** Takes connections from now on, unless a limit says otherwise. */
  resume(): void {
    if (this.#state === "closed") return;
    this.#retry?.cancel();
    this.#retry = undefined;
    if (this.inlet.renewal?.state === "lost") {
      this.#lost(this.#lostFor ?? "the server has gone");
      return;
    }
    if (this.#room <= 0) {
      this.#full();
      return;
    }
    if (!this.#watchInlet()) return;
    if (this.#state === "stopping") this.#take();
  }

  #watchInlet(): boolean {
    try {
      this.#watch ??= this.reactor.watch(this.inlet.fd.number, EVENT.in, () => this.#take());
      return true;
    } catch (error) {
      if (!(error instanceof SysError && SHORTAGES.has(error.errno))) throw error;
      this.#shared.shortage(error.errno);
      return false;
    }
  }

  /** Takes none until time has passed, or `resume` is called. */
  pause(): void {
    this.#unwatch();
    this.#retry ??= this.reactor.after(SHORTAGE_RETRY_MS, () => this.resume());
  }

  /** Takes what has come, and nothing after it. */
  stop(): void {
    if (this.#state !== "open") return;
    this.#state = "stopping";
    this.inlet.refuse();
    this.resume();
  }

  /** Leaves its inlet to a successor; its connections go on. */
  retire(): void {
    this.#leaves = true;
    this.#close();
  }

  /** Ends what still runs. */
  end(ending: Ending): void {
    this.#close();
    this.#limited.flush();
    for (const connection of this.#connections) connection.end(ending);
  }

  uniqueId(): Uint8Array {
    return this.#shared.uniqueId();
  }

  admit(connection: Connection): boolean {
    const { lines } = this.#shared;
    if (!lines.none) lines.started(this.settings.name, connection.flow);
    return this.tally.admit(connection);
  }

  order(connection: Connection): readonly number[] {
    return this.#balancer.order(connection, performance.now());
  }

  reached(index: number): void {
    if (this.#balancer.reached(index)) this.#tell(`target ${this.#targetName(index)}: reached again`);
  }

  missed(index: number, cause: string): void {
    if (!this.#balancer.failed(index, performance.now())) return;
    this.#tell(`target ${this.#targetName(index)} cannot be reached: ${cause}`);
  }

  shortage(errno: number): void {
    this.#shared.shortage(errno);
  }

  ended(connection: Connection, ending: Ending, detail: string): void {
    this.#connections.delete(connection);
    this.tally.ended(connection, ending);
    if (connection.targetIndex !== undefined) this.#balancer.released(connection.targetIndex);
    const { lines } = this.#shared;
    if (!lines.none) {
      const { flow, target, up, down, since } = connection;
      const ms = performance.now() - since;
      lines.ended({ relay: this.settings.name, flow, target, ending, detail, up, down, ms });
    }
    if (this.#connections.size === 0) this.#idle();
    this.#shared.room();
  }

  #take(): void {
    const room = this.#room;
    const capacity = this.#shared.capacity();
    if (room <= 0) {
      this.#full();
      return;
    }
    if (capacity <= 0) {
      this.#shared.shortage(ERRNO.EMFILE);
      return;
    }
    const count = this.inlet.take(this.#flows, Math.min(room, capacity, BATCH));
    if (count < 0) {
      this.#cannotTake(-count);
      return;
    }
    if (this.#lostFor !== undefined && this.inlet.renewal!.state === "registered") {
      this.#lostFor = undefined;
      this.#tell("registered again");
    }
    if (count === 0 && this.#state === "stopping") this.#close();
    const now = performance.now();
    for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) {
      const fd = this.#flows[at + FLOW_FD_WORD]! | 0;
      if (fd >= 0) this.#begin(new Connection(this, this.#flows, at, now));
      else this.#limited.say(`dropped a message: ${DROPPED.get(-fd) ?? errnoName(-fd)}`);
    }
    // Each call takes a batch; there may be more, and nothing would tell when the watch has been stopped.
    if (count > 0 && this.#state === "stopping") this.resume();
  }

  #begin(connection: Connection): void {
    this.#connections.add(connection);
    this.tally.add(connection);
    connection.begin();
    this.#ticking ??= this.reactor.after(this.#tickMs, () => this.#tick());
  }

  #tick(): void {
    const now = performance.now();
    for (const connection of this.#connections) connection.tick(now);
    this.#ticking =
      this.#connections.size > 0 ? this.reactor.after(this.#tickMs, () => this.#tick()) : undefined;
  }

  #cannotTake(errno: number): void {
    if (SHORTAGES.has(errno)) {
      this.#shared.shortage(errno);
      return;
    }
    if (this.inlet.renewal?.state === "lost") {
      this.#lost(LOST_FOR.get(errno) ?? `registration: ${errnoName(errno)}`);
      return;
    }
    // Having refused what may come, we are told of the end as well.
    const stopped = this.#state === "stopping" && errno === ERRNO.ENODATA;
    this.peerGone = !stopped;
    if (!stopped)
      this.#tell(errno === ERRNO.ENODATA ? "the server has gone" : `receive: ${errnoName(errno)}`);
    this.#close();
  }

  /** Its connections go on meanwhile. */
  #lost(why: string): void {
    this.#unwatch();
    if (this.#state === "stopping") {
      this.#close();
      return;
    }
    if (this.#lostFor !== why) this.#tell(`${why}; registering anew as soon as it can be`);
    this.#lostFor = why;
    this.#renewing ??= this.reactor.after(RENEW_MS, () => this.#renew());
  }

  #renew(): void {
    this.#renewing = undefined;
    const errno = -this.inlet.renewal!.ask();
    if (errno === 0) this.resume();
    else this.#lost(STILL_GONE.has(errno) ? this.#lostFor! : `registration: ${errnoName(errno)}`);
  }

  #full(): void {
    this.#unwatch();
    const now = performance.now();
    if (now - this.#limitTold < REPEAT_MS) return;
    this.#limitTold = now;
    this.#tell(`pausing: limit of ${this.settings.max} reached (max); connections wait`);
  }

  #close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#unwatch();
    this.#retry?.cancel();
    this.#renewing?.cancel();
    // At once, although connections go on: a successor may want the path, the name or the slot.
    if (!this.#leaves) this.inlet[Symbol.dispose]();
    if (this.#connections.size === 0) this.#idle();
  }

  #idle(): void {
    if (this.#state !== "closed") return;
    this.sockets?.close();
    this.#shared.finished(this);
  }

  #unwatch(): void {
    this.#watch?.cancel();
    this.#watch = undefined;
  }

  #targetName(index: number): string {
    return formatUpstream(this.settings.to[index]!);
  }

  #tell(line: string): void {
    this.#shared.log(`${this.settings.name}: ${line}`);
  }
}
