/** What the control plane (main thread) and an acceptor (Worker) say to each other. */
import type { Taken } from "../io/deliver.ts";
import type { Entry } from "../io/journal.ts";
import type { ProxyReceiving } from "../model/proxy.ts";
import { REASONS, type Reason } from "../model/reason.ts";
import type { Receiver } from "../model/target.ts";
import type { Table } from "../routing/table.ts";
import type { StrictMode } from "../wire/handoff.ts";

/** Where an acceptor gets connections from. The descriptor becomes the acceptor's. */
export interface Source {
  /** What later orders call it: one for all acceptors that share a listener. */
  readonly id: number;
  readonly fd: number;
  /** `mailbox`: connections come as messages, and the end of them is the end of the server. */
  readonly kind: "listener" | "mailbox";
  /** The number of the listener (ListenerNames), for routes that name one. */
  readonly listener: number;
  readonly clearTransparent: boolean;
  /** Absent where no PROXY header is looked for. */
  readonly proxy?: ProxyReceiving | undefined;
  /** Other acceptors wait on the same listener: only one of them is woken for each connection. */
  readonly shared: boolean;
  readonly ending: Ending;
}

/** What becomes of a source when it is removed, or when we stop. */
export type Ending =
  /** It is ours alone: it lets nobody new in, and what is in its backlog is accepted. */
  | "refuse"
  /** Others may have it too: what is in its backlog is accepted. */
  | "drain"
  /** Others have it too: what is in its backlog is for our successor. */
  | "leave";

/** A slot, and the socket of whoever has registered for it; `undefined`: nobody. It becomes the acceptor's. */
export interface Holder {
  readonly slot: number;
  readonly fd: number | undefined;
}

/** What a reload changes, all at once. */
export interface Change {
  readonly table: Table;
  readonly add: readonly Source[];
  /** The sources that stay, with what may have changed of them. The others are closed, each by its `ending`. */
  readonly keep: readonly Pick<Source, "id" | "listener" | "clearTransparent" | "proxy">[];
}

/** To the acceptor. After the first, an order is read when `wake` (an eventfd) is signalled. */
export type Order =
  | {
      readonly kind: "serve";
      readonly table: Table;
      readonly sources: readonly Source[];
      readonly strict: StrictMode;
      readonly counters: SharedArrayBuffer;
      readonly wake: number;
      /** The most connections that wait in all; beyond it, accepting pauses. */
      readonly waitingMax: number;
      readonly holders: readonly Holder[];
      /** What others had taken in; to be delivered before anything is accepted. Their descriptors become ours. */
      readonly adopted: readonly Taken[];
    }
  | ({ readonly kind: "change" } & Change)
  | ({ readonly kind: "hold" } & Holder)
  /** Take nothing more in, and report what waits: another process goes on with both. Until `resume`, stay. */
  | { readonly kind: "release" }
  /** After a release: go on, with these. */
  | { readonly kind: "resume"; readonly sources: readonly Source[]; readonly adopted: readonly Taken[] }
  /** Accept what has come, deliver what waits, then stop. */
  | { readonly kind: "stop" }
  /** Stop now; what waits is given up. */
  | { readonly kind: "end" };

/** From the acceptor. */
export type Report =
  | { readonly kind: "loaded" }
  | { readonly kind: "gave-up"; readonly entries: readonly Entry[] }
  | { readonly kind: "way"; readonly receiver: string; readonly step: string; readonly errno: number }
  | { readonly kind: "lost"; readonly receiver: Receiver }
  /** A path that a target spreads over has come, or gone. */
  | {
      readonly kind: "sibling";
      readonly target: string;
      readonly receiver: Receiver;
      readonly present: boolean;
    }
  /** Accepting stopped for want of something (errno > 0: EMFILE …; 0: too many wait), or goes on again. */
  | { readonly kind: "paused"; readonly errno: number }
  | { readonly kind: "resumed" }
  /** In answer to a release: what waited. Its descriptors become the control plane's. */
  | { readonly kind: "released"; readonly waiting: readonly Taken[] }
  /** In answer to a change: all that it removed has been emptied and closed. */
  | { readonly kind: "settled" }
  /** The server that we registered with has gone. */
  | { readonly kind: "source-ended" }
  | { readonly kind: "stopped" };

/** Counters that both threads see: one number each, written by the acceptor alone. */
export const COUNTERS = ["accepted", "delivered", "waiting", ...REASONS] as const;

export type Counter = (typeof COUNTERS)[number];

const PLACES = Object.fromEntries(COUNTERS.map((counter, index) => [counter, index])) as Record<
  Counter,
  number
>;

/** After the counters: how often the reactor has turned. */
const TURNS = COUNTERS.length;

export class Counters {
  readonly buffer: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(buffer = new SharedArrayBuffer((COUNTERS.length + 1) * Float64Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#values = new Float64Array(buffer);
  }

  /** A sign of life: goes up with every turn of the acceptor's reactor. */
  get turns(): number {
    return this.#values[TURNS]!;
  }

  turn(): void {
    this.#values[TURNS]!++;
  }

  get(counter: Counter): number {
    return this.#values[PLACES[counter]]!;
  }

  add(counter: Counter, amount: number): void {
    this.#values[PLACES[counter]]! += amount;
  }

  /** Connections given up, for whatever reason. */
  get gaveUp(): number {
    return REASONS.reduce((sum, reason: Reason) => sum + this.get(reason), 0);
  }
}
