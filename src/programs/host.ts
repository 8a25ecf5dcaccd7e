/** The world as a program sees it, handed in at the top, so that a test can hand in another. */
import type { SignalName } from "../io/signals.ts";
import { MANAGER_VARIABLES } from "../io/systemd.ts";
import { parseStrictMode, type StrictMode } from "../wire/handoff.ts";

export interface Host {
  /** The name that it was called by, which stands in front of each line of its log. */
  readonly name: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What starts this same program again: an executable and its first arguments. */
  readonly self: readonly string[];
  /** Answers go here, as they are. */
  out(text: string): void;
  /** One line of the log. */
  log(line: string): void;
  /** Whole lines of a log that has a form of its own, as they are. */
  raw(text: string): void;
  /** Calls back in the main thread's event loop. */
  onSignal(signal: SignalName, handler: () => void): void;
}

/** The exit codes of every program; docs/COMMANDS.md lists them. */
export const EXIT = {
  ok: 0,
  /** The configuration was refused, or what was asked for does not hold. */
  refused: 1,
  /** The command line was not understood. */
  usage: 2,
  /** The kernel refused something: an address in use, a permission, a missing file. */
  system: 3,
  /** The peer of an inherited socket (`-i`), or the server that we registered with (`-P`), has gone. */
  peerGone: 11,
  /** A fault of ours. */
  internal: 70,
} as const;

/** Ends a program with a message for its user; `code` is one of {@link EXIT}. */
export class Failure extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
    this.name = "Failure";
  }
}

/** What we pass among our own processes, and what no other program shall see; the last is for Bun (bin/launch). */
const OWN_VARIABLES = [
  "SOCKETBOX_STARTED",
  "SOCKETBOX_READY_FD",
  "BUN_RUNTIME_TRANSPILER_CACHE_PATH",
] as const;

/** The environment for a program that takes our place. */
export function ownEnvironment(env: Host["env"]): Record<string, string | undefined> {
  return without(env, OWN_VARIABLES);
}

/** The environment for a program that we start: what the service manager says is for us alone. */
export function childEnvironment(env: Host["env"]): Record<string, string | undefined> {
  return without(env, [...OWN_VARIABLES, ...MANAGER_VARIABLES]);
}

function without(env: Host["env"], names: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));
}

/** Which received sockets are taken (SKBOX_STRICT_STREAM_MODE). Throws a Failure when the variable cannot be read. */
export function strictMode(host: Host): StrictMode {
  const value = host.env.SKBOX_STRICT_STREAM_MODE;
  const mode = parseStrictMode(value);
  if (mode !== undefined) return mode;
  throw new Failure(EXIT.usage, `SKBOX_STRICT_STREAM_MODE is ${JSON.stringify(value)}; expected 0, 1 or 2`);
}
