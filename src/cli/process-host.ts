/** The real world: this process's own streams, environment and signals. */
import { writeSync } from "node:fs";
import { ERRNO, SysError } from "../native/errno.ts";
import { native } from "../native/library.ts";
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
    env: process.env,
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
