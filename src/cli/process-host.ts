/** The real world: this process's own streams, environment and signals. */
import { writeSync } from "node:fs";
import type { Host } from "../programs/host.ts";

/** `self` starts this program again; `name` is how it was called. */
export function processHost(name: string, self: readonly string[]): Host {
  // Under systemd every line gets its time from the journal already (systemd.exec(5), JOURNAL_STREAM).
  const timed = process.env.JOURNAL_STREAM === undefined;
  return {
    name,
    env: process.env,
    self,
    out: (text) => write(1, text),
    log: (line) => write(2, `${timed ? `${new Date().toISOString()} ` : ""}${name}: ${line}\n`),
    raw: (text) => write(2, text),
    onSignal: (signal, handler) => void process.on(signal, handler),
  };
}

/** All of `text`, also into a pipe that is full or slow; a reader that has gone does not end a server. */
function write(fd: number, text: string): void {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
      Bun.sleepSync(1);
    }
  }
}
