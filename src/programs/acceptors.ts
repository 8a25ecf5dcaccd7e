/** The acceptors as the control plane sees them: started, given orders, listened to, and stopped. */
import { Worker } from "node:worker_threads";
import type { Taken } from "../io/deliver.ts";
import { Fd } from "../io/fd.ts";
import type { Entry } from "../io/journal.ts";
import { formatFlow } from "../model/flow.ts";
import { formatReceiver } from "../model/target.ts";
import { acceptorScript } from "../native/assets.ts";
import { check, describeErrno, errnoName } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { flowOf } from "../routing/record.ts";
import type { Table } from "../routing/table.ts";
import type { StrictMode } from "../wire/handoff.ts";
import type { ListenerNumbers } from "./configure.ts";
import { EXIT, type Host } from "./host.ts";
import type { WorkerSource } from "./listeners.ts";
import { type Change, COUNTERS, type Counter, Counters, type Order, type Report } from "./orders.ts";

/** Descriptors kept free of waiting connections, for everything else that needs one; where there are few, half. */
const RESERVED_FDS = 256;

/** How long the next reload waits for the last one's listeners to be closed. */
const SETTLE_MS = 2000;

interface Member {
  readonly worker: Worker;
  /** Ours; the acceptor has a duplicate. Closed once it has stopped. */
  readonly wake: Fd;
  readonly counters: Counters;
}

export interface Service {
  readonly table: Table;
  readonly strict: StrictMode;
  readonly numbers: ListenerNumbers;
  readonly sources: readonly WorkerSource[];
  /** What a server before us had taken in, and not delivered yet. */
  readonly adopted: readonly Taken[];
}

interface Ending {
  /** Whether to stop when the peer of an inherited socket has gone. */
  readonly exitWhenLost: boolean;
  /** Called when it begins. */
  stopping(): void;
}

export class Acceptors {
  readonly #host: Host;
  readonly #members: readonly Member[];
  #numbers: ListenerNumbers | undefined;
  #running: number;
  #stopping = false;
  /** Somebody else may be about to go on with what waited, and to end at once must wait until that is settled. */
  #released = false;
  #ending = false;
  #exitWhenLost = false;
  /** By what each acceptor finds out for itself, what was said of it last. */
  readonly #said = new Map<string, number>();
  #announce: () => void = () => {};
  #settled: () => void = () => {};
  readonly #finished = Promise.withResolvers<number>();
  #code: number = EXIT.ok;

  private constructor(host: Host, members: readonly Member[]) {
    this.#host = host;
    this.#members = members;
    this.#running = members.length;
  }

  /**
   * Starts them and waits until each has loaded its code and the helper: after a chroot neither could be found, and
   * threads made later would not have been there when privileges were given up.
   */
  static async start(host: Host, count: number): Promise<Acceptors> {
    const members = Array.from({ length: count }, (): Member => {
      const wake = Fd.from(native.sb_eventfd(), "eventfd");
      return { worker: new Worker(acceptorScript), wake, counters: new Counters() };
    });
    await Promise.all(members.map(({ worker }) => loaded(worker)));
    return new Acceptors(host, members);
  }

  serve({ table, strict, sources, numbers, adopted }: Service): void {
    this.#numbers = numbers;
    const most = native.sb_raise_nofile();
    const waitingMax = Math.max(
      1,
      Math.floor((most - Math.min(RESERVED_FDS, most / 2)) / 2 / this.#members.length),
    );
    for (const [index, member] of this.#members.entries()) {
      const { worker, wake, counters } = member;
      worker.on("message", (report: Report) => this.#hear(report, member));
      worker.on("error", (error) => this.#failed(error));
      const order: Order = {
        kind: "serve",
        table,
        sources: sources.filter((source) => source.worker === index),
        strict,
        counters: counters.buffer,
        wake: duplicate(wake.number),
        waitingMax,
        holders: [],
        adopted: adopted.filter((_, turn) => turn % this.#members.length === index),
      };
      worker.postMessage(order);
    }
  }

  /** Takes effect at once; resolves when what it removes has been emptied and closed, or that takes long. */
  change(table: Table, added: readonly WorkerSource[], keep: Change["keep"]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#said.clear();
    let left = this.#members.length;
    this.#settled = () => --left === 0 && resolve();
    this.#orderEach((worker) => {
      const add = added.filter((source) => source.worker === worker);
      return { kind: "change", table, add, keep };
    });
    return Promise.race([promise, Bun.sleep(SETTLE_MS)]);
  }

  /** Takes nothing more in; resolves to what waits, whose descriptors become the caller's. */
  async release(): Promise<Taken[]> {
    this.#released = true;
    const answers = this.#members.map(waitingAt);
    this.#order({ kind: "release" });
    return (await Promise.all(answers)).flat();
  }

  /** Goes on after a release, with these. */
  resume(sources: readonly WorkerSource[], adopted: readonly Taken[]): void {
    this.#released = false;
    const first = this.#members.findIndex(({ wake }) => wake.open);
    this.#orderEach((worker) => ({
      kind: "resume",
      sources: sources.filter((source) => source.worker === worker),
      adopted: worker === first ? adopted : [],
    }));
    if (this.#ending) this.stop(this.#code);
  }

  /** Stops after a release: others go on with what waited. */
  leave(): void {
    this.resume([], []);
    if (!this.#stopping) this.stop(EXIT.ok);
  }

  /** Who has the slot from now on; nobody without `fd`, which stays the caller's. */
  hold(slot: number, fd: number | undefined): void {
    this.#orderEach(() => ({ kind: "hold", slot, fd: fd === undefined ? undefined : duplicate(fd) }));
  }

  /** Resolves to the exit code when all have stopped. */
  async end({ exitWhenLost, stopping }: Ending): Promise<number> {
    this.#exitWhenLost = exitWhenLost;
    this.#announce = stopping;
    const code = await this.#finished.promise;
    if (this.#members.length > 1) {
      for (const [index, { counters }] of this.#members.entries())
        this.#host.log(`acceptor ${index + 1}: ${summaryOf((counter) => counters.get(counter))}`);
    }
    this.#host.log(`stopped: ${this.summary}`);
    return code;
  }

  /** What is listened on from now on would not be served to the end. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** Lets what has come be delivered, then ends; a second call ends at once. */
  stop(code: number): void {
    if (!this.#stopping) {
      this.#code = code;
      this.#announce();
    }
    this.#ending = this.#stopping;
    this.#stopping = true;
    if (!this.#ending) this.#order({ kind: "stop" });
    else if (!this.#released) this.#order({ kind: "end" });
  }

  /**
   * How often each acceptor's reactor has turned. One that has nothing to do does not turn: `nudge` first, and
   * those that live turn at least once.
   */
  get turns(): readonly number[] {
    return this.#members.map(({ counters }) => counters.turns);
  }

  nudge(): void {
    for (const { wake } of this.#members) if (wake.open) native.sb_eventfd_add(wake.number);
  }

  #order(order: Order): void {
    this.#orderEach(() => order);
  }

  #orderEach(orderFor: (worker: number) => Order): void {
    for (const [index, { worker, wake }] of this.#members.entries())
      if (wake.open) worker.postMessage(orderFor(index));
    this.nudge();
  }

  #hear(report: Report, { wake }: Member): void {
    switch (report.kind) {
      case "loaded":
        return;
      case "gave-up":
        for (const entry of report.entries) this.#host.log(describeEntry(entry, this.#numbers));
        return;
      case "way":
        if (!this.#isNews(report.receiver, report.errno)) return;
        this.#host.log(describeWay(report.receiver, report.step, report.errno));
        return;
      case "lost":
        this.#host.log(`${formatReceiver(report.receiver)}: its peer has gone`);
        if (this.#exitWhenLost) this.stop(EXIT.peerGone);
        return;
      case "sibling": {
        const sibling = `${report.target}: ${formatReceiver(report.receiver)}`;
        if (!this.#isNews(sibling, report.present ? 1 : 0)) return;
        this.#host.log(`${sibling} ${report.present ? "joins" : "leaves"}`);
        return;
      }
      case "paused":
        this.#host.log(describePause(report.errno));
        return;
      case "resumed":
        this.#host.log("accepting goes on");
        return;
      case "source-ended":
        this.#host.log("the server that we registered with has gone");
        this.stop(EXIT.peerGone);
        return;
      case "settled":
        this.#settled();
        return;
      case "released":
        return; // waited for by release()
      case "stopped":
        wake.close();
        if (--this.#running === 0) this.#finished.resolve(this.#code);
        return;
    }
  }

  #isNews(subject: string, state: number): boolean {
    if (this.#said.get(subject) === state) return false;
    this.#said.set(subject, state);
    return true;
  }

  #failed(error: unknown): void {
    this.#host.log(
      `a fault of ours, please report it: ${error instanceof Error ? error.stack : String(error)}`,
    );
    this.#finished.resolve(EXIT.internal);
  }

  /** What has become of all connections so far. */
  get summary(): string {
    return summaryOf((counter) =>
      this.#members.reduce((total, { counters }) => total + counters.get(counter), 0),
    );
  }
}

function summaryOf(count: (counter: Counter) => number): string {
  return COUNTERS.map((counter) => `${count(counter)} ${counter}`)
    .filter((text, index) => index === 0 || !text.startsWith("0 "))
    .join(", ");
}

/** What is released there; nothing, where it has stopped before it heard of it. */
function waitingAt({ worker, wake }: Member): Promise<readonly Taken[]> {
  return new Promise((resolve) => {
    const hear = (report: Report) => {
      if (report.kind !== "released" && report.kind !== "stopped") return;
      worker.off("message", hear);
      resolve(report.kind === "released" ? report.waiting : []);
    };
    if (wake.open) worker.on("message", hear);
    else resolve([]);
  });
}

function duplicate(fd: number): number {
  return check(native.sb_duplicate(fd), `descriptor ${fd}`);
}

function loaded(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once("message", () => resolve());
    worker.once("error", reject);
  });
}

function describeEntry(
  { reason, target, flow, listener, count }: Entry,
  numbers: ListenerNumbers | undefined,
): string {
  const where = target ? ` (to ${target})` : "";
  if (!flow || listener === undefined) return `${count} more connections given up: ${reason}${where}`;
  const by = numbers?.several ? ` by listener ${numbers.name(listener)}` : "";
  return `connection given up: ${reason}${where}: ${formatFlow(flowOf(flow, 0, listener))}${by}`;
}

function describePause(errno: number): string {
  const why = errno ? errnoName(errno) : "too many connections wait";
  return `accepting pauses: ${why}; clients wait in the backlog`;
}

function describeWay(receiver: string, step: string, errno: number): string {
  return errno
    ? `${receiver}: ${step}: ${describeErrno(errno)}; its connections wait`
    : `${receiver}: reached again`;
}
