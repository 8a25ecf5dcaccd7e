/** Signals, delivered to a reactor like any other event. */
import { native } from "../native/library.ts";
import { Fd, SIGNALS } from "./fd.ts";
import { EVENT, type Reactor } from "./reactor.ts";

export type SignalName = keyof typeof SIGNALS;

/** Bit N-1 for signal N, as /proc/PID/status writes sets of signals (proc(5)). */
export function signalMask(names: readonly SignalName[]): bigint {
  return names.reduce((mask, name) => mask | (1n << BigInt(SIGNALS[name] - 1)), 0n);
}

/** The name of a signal's number: `SIGTERM`, or `signal 35` where it has none. */
export function signalName(number: number): string {
  return Object.entries(SIGNALS).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}

type Handlers = Partial<Record<SignalName, () => void>>;

/** Signals that no longer do what they do by default: each is kept until somebody handles it. Once in a process. */
export class CaughtSignals implements Disposable {
  readonly #pipe: Fd;

  constructor(names: readonly SignalName[]) {
    this.#pipe = Fd.from(native.sb_signal_fd(signalMask(names)), "watch signals");
  }

  /** Calls the handler of each that has come, or comes, in the reactor's thread. */
  handle(reactor: Reactor, handlers: Handlers): void {
    const pipe = this.#pipe.number;
    const bytes = new Uint8Array(64);
    reactor.watch(pipe, EVENT.in, () => {
      const count = native.sb_read(pipe, bytes, bytes.length);
      for (const number of bytes.subarray(0, Math.max(0, count)))
        handlers[signalName(number) as SignalName]?.();
    });
  }

  [Symbol.dispose](): void {
    this.#pipe.close();
  }
}
