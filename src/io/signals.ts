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

/** Calls the handler of each signal that comes, in the reactor's thread. Once in a process. */
export function onSignals(reactor: Reactor, handlers: Partial<Record<SignalName, () => void>>): Disposable {
  const names = Object.keys(handlers) as SignalName[];
  const pipe = Fd.from(native.sb_signal_fd(signalMask(names)), "watch signals");
  const bytes = new Uint8Array(64);
  const watch = reactor.watch(pipe.number, EVENT.in, () => {
    const count = native.sb_read(pipe.number, bytes, bytes.length);
    for (const number of bytes.subarray(0, Math.max(0, count)))
      handlers[signalName(number) as SignalName]?.();
  });
  return {
    [Symbol.dispose]: () => {
      watch.cancel();
      pipe.close();
    },
  };
}
