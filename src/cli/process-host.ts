/** The real world: this process's own streams, environment and signals. */
import { isUtf8 } from "node:buffer";
import { readFileSync, writeSync } from "node:fs";
import { ERRNO, SysError } from "../native/errno.ts";
import { foreignText, native } from "../native/library.ts";
import type { Host } from "../programs/host.ts";

/** What a pipe that says it has room takes without blocking (pipe(7)). */
const PIPE_BUF = 4096;
/** How long a log that nobody reads may hold us up, once. */
const PATIENCE_MS = 1000;

/** `self` starts this program again; `name` is how it was called. */
export function processHost(name: string, self: readonly string[]): Host {
  // Under systemd every line gets its time from the journal already (systemd.exec(5), JOURNAL_STREAM).
  const prefix = () => (process.env.JOURNAL_STREAM === undefined ? `${new Date().toISOString()} ` : "");
  const log = new LogStream(
    (lost) => `${prefix()}${name}: ${lost} lines of this log were lost: they could not be written\n`,
  );
  return {
    name,
    env: environment(),
    self,
    out: (text) => {
      const { errno } = write(1, text, -1);
      // Who has read enough has gone; whoever has not must not take what there is for all.
      if (errno !== 0 && errno !== ERRNO.EPIPE) throw new SysError("write to standard output", errno);
    },
    log: (line) => log.write(`${prefix()}${name}: ${line}\n`),
    raw: (text) => log.write(text),
    onSignal: (signal, handler) => void process.on(signal, handler),
  };
}

/** Bun puts U+FFFD in the place of bytes that are not UTF-8: such variables are taken as we were started with them. */
function environment(): Host["env"] {
  const bytes = environmentBytes();
  if (isUtf8(bytes)) return process.env;
  const env = { ...process.env };
  const variables = bytes
    .toString("latin1")
    .split("\0")
    .map((text) => Buffer.from(text, "latin1"));
  for (const variable of variables.filter((variable) => !isUtf8(variable))) {
    const [name = "", ...value] = foreignText(variable).split("=");
    env[name] = value.join("=");
  }
  return env;
}

/** Each variable with its NUL (proc(5)). */
function environmentBytes(): Buffer {
  try {
    return readFileSync("/proc/self/environ");
  } catch {
    return Buffer.alloc(0); // there is no /proc in here
  }
}

/**
 * Standard error. A pipe that is full and that nobody reads must not stop a server: after a while its lines are lost,
 * and counted, until there is room again.
 */
class LogStream {
  readonly #notice: (lost: number) => string;
  #lost = 0;

  constructor(notice: (lost: number) => string) {
    this.#notice = notice;
  }

  write(text: string): void {
    if (this.#lost > 0 && write(2, this.#notice(this.#lost), 0).written) this.#lost = 0;
    if (this.#lost > 0 || !write(2, text, PATIENCE_MS).written) this.#lost += text.split("\n").length - 1;
  }
}

/** `written` is all of it or not; with an `errno` nothing more can be. */
interface Outcome {
  readonly written: boolean;
  readonly errno: number;
}

/** Writes `text`; what there is no room for after `patienceMs` (-1: it waits for ever) is left out. */
function write(fd: number, text: string, patienceMs: number): Outcome {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    if (native.sb_wait_writable(fd, patienceMs) === 0) return { written: false, errno: 0 };
    try {
      rest = rest.subarray(writeSync(fd, rest, 0, Math.min(rest.length, PIPE_BUF)));
    } catch (error) {
      const errno = -((error as NodeJS.ErrnoException).errno ?? 0);
      if (errno !== ERRNO.EAGAIN) return { written: false, errno };
    }
  }
  return { written: true, errno: 0 };
}
