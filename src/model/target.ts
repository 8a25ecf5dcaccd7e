/**
 * A target is where a connection may go: one receiver or several, and what becomes of a connection that they cannot
 * take at once. In a configuration a receiver is a word such as `unix:/run/web`; a path with `{…}` in it is a template
 * that each flow fills in.
 */
import { formatPlain, groupsOf } from "./address.ts";
import type { Flow } from "./flow.ts";

/**
 * What each flow fills into a path: `braces` are our own placeholders (see {@link fillBraces}), `groups` the
 * original's patterns for `-U` (see {@link fillGroups}).
 */
export type Fill = "braces" | "groups";

export type Receiver =
  /** Bound at a path, or at `@name` in the abstract namespace. */
  | { readonly kind: "unix"; readonly path: string; readonly fill?: Fill }
  /** The other end of an inherited, connected Unix socket. */
  | { readonly kind: "fd"; readonly fd: number }
  /** Whoever has registered for this slot. */
  | { readonly kind: "slot"; readonly slot: number };

/** Which receiver a connection goes to: the next in turn, the one that fewest wait for, or the one of its client. */
export const BALANCES = ["round-robin", "least-waiting", "source-hash"] as const;
export type Balance = (typeof BALANCES)[number];

export interface Target {
  /** How log lines and `explain` call it: its name in the configuration, or its receiver. */
  readonly name: string;
  /** At least one. */
  readonly receivers: readonly Receiver[];
  readonly balance: Balance;
  /** Whether a connection goes to another receiver when its own is missing or full. */
  readonly fallback: boolean;
  /** Whether each path stands for its siblings as well ({@link siblingPath}). */
  readonly spread: boolean;
  /** The most connections that wait for this target, for all its receivers together. */
  readonly queue: number;
  /** The longest that one connection waits, in milliseconds. */
  readonly waitMs: number;
}

export const QUEUE_DEFAULT = 1024;
export const WAIT_MS_DEFAULT = 10_000;

export const BALANCE_DEFAULT: Balance = "round-robin";

/** The target that a bare receiver stands for. */
export function targetOf(receiver: Receiver): Target {
  return {
    name: formatReceiver(receiver),
    receivers: [receiver],
    balance: BALANCE_DEFAULT,
    fallback: false,
    spread: false,
    queue: QUEUE_DEFAULT,
    waitMs: WAIT_MS_DEFAULT,
  };
}

/** Whether there may be more than one receiver for the same connection. */
export function isPool({ receivers, spread }: Target): boolean {
  return receivers.length > 1 || spread;
}

/** Whether other flows find other receivers. */
export function isTemplate({ receivers }: Target): boolean {
  return receivers.some((receiver) => receiver.kind === "unix" && receiver.fill !== undefined);
}

/** The receivers of one flow. */
export function fillTarget({ receivers }: Target, flow: Flow): Receiver[] {
  return receivers.map((receiver) => fillReceiver(receiver, flow));
}

/** Processes that share an address with SO_REUSEPORT under the preload library are at PATH, PATH.1 … PATH.64. */
export const SIBLINGS_MAX = 64;

export function siblingPath(path: string, number: number): string {
  return `${path}.${number}`;
}

/** The longest path in a sockaddr_un: 108 bytes less the final NUL (unix(7)). */
export const UNIX_PATH_MAX = 107;

export function formatReceiver(receiver: Receiver): string {
  switch (receiver.kind) {
    case "unix":
      return `unix:${receiver.path}`;
    case "fd":
      return `fd:${receiver.fd}`;
    case "slot":
      return `slot:${receiver.slot}`;
  }
}

const PLACEHOLDER = /\{(port|local|group[0-7])\}/g;

export function hasBraces(path: string): boolean {
  return path.search(PLACEHOLDER) >= 0;
}

/** `{port}` in decimal, `{local}` as plain text, `{group0}`…`{group7}` as four hex digits. */
export function fillBraces(path: string, flow: Flow): string {
  return path.replace(PLACEHOLDER, (_, name: string) => {
    if (name === "port") return String(flow.localPort);
    if (name === "local") return formatPlain(flow.local);
    return groupsOf(flow.local)[Number(name.slice(5))]!.toString(16).padStart(4, "0");
  });
}

/** How long a path can get at most when its braces are filled, in bytes. */
export function longestPath(path: string): number {
  const longest: Record<string, string> = { port: "65535", local: "x".repeat(39) };
  return Buffer.byteLength(path.replace(PLACEHOLDER, (_, name: string) => longest[name] ?? "ffff"));
}

export function hasGroups(path: string): boolean {
  return /#\/\/[0-7P]_/.test(path);
}

/**
 * The first `#//0_`…`#//7_` of a path becomes that 16-bit group of the local address, the first `#//P_` the local
 * port, each as five decimal digits. The result is as long as the pattern.
 */
export function fillGroups(path: string, flow: Flow): string {
  let filled = path;
  groupsOf(flow.local).forEach((group, index) => {
    filled = filled.replace(`#//${index}_`, fiveDigits(group));
  });
  return filled.replace("#//P_", fiveDigits(flow.localPort));
}

/** The receiver for one flow, of a receiver whose path is filled in. */
export function fillReceiver(receiver: Receiver, flow: Flow): Receiver {
  if (receiver.kind !== "unix" || !receiver.fill) return receiver;
  const fill = receiver.fill === "braces" ? fillBraces : fillGroups;
  return { kind: "unix", path: fill(receiver.path, flow) };
}

function fiveDigits(value: number): string {
  return String(value).padStart(5, "0");
}
