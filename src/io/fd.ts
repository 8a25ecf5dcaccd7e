/** An owned descriptor: closed once, by `using` or `close()`, unless `take()` passed it on. */
import { constants } from "node:os";
import { check } from "../native/errno.ts";
import { native } from "../native/library.ts";

let live = 0;

/** How many owned descriptors are open now; tests hold it to be back where it started. */
export function liveFds(): number {
  return live;
}

export class Fd implements Disposable {
  #number: number;

  /** Takes ownership of `number`. */
  constructor(number: number) {
    this.#number = number;
    live++;
  }

  /** Owns `result` of a native call, or throws a SysError for `step`. */
  static from(result: number, step: string): Fd {
    return new Fd(check(result, step));
  }

  get number(): number {
    if (this.#number < 0) throw new Error("a descriptor was used after it was closed or passed on");
    return this.#number;
  }

  get open(): boolean {
    return this.#number >= 0;
  }

  /** Gives ownership to the caller. */
  take(): number {
    const { number } = this;
    this.#number = -1;
    live--;
    return number;
  }

  close(): void {
    if (this.open) native.sb_close(this.take());
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The signals' numbers, by name: `SIGNALS.SIGTERM`. */
export const SIGNALS = constants.signals;
