/** How many, how many from one source, and how fast: decisions only, the clock is handed in. */
import { type Address, isMapped, masked, prefixMask } from "../model/address.ts";

export interface PerSource {
  readonly most: number;
  /** An IPv6 user owns a whole prefix, so that a single address says little; IPv4 addresses count one by one. */
  readonly prefixLength: number;
}

/** Counts what is running for each source. */
export class SourceCounts {
  readonly #limit: PerSource;
  readonly #mask: Address;
  readonly #counts = new Map<string, number>();

  constructor(limit: PerSource) {
    this.#limit = limit;
    this.#mask = prefixMask(limit.prefixLength);
  }

  /** Counts one more, unless that would be too many. The key is to be given back with `release`. */
  admit(remote: Address): string | undefined {
    const count = this.#counts.get(this.#key(remote)) ?? 0;
    return count >= this.#limit.most ? undefined : this.add(remote);
  }

  /** Counts one more in any case. The key is to be given back with `release`. */
  add(remote: Address): string {
    const key = this.#key(remote);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    return key;
  }

  release(key: string): void {
    const count = this.#counts.get(key)! - 1;
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
  }

  #key(remote: Address): string {
    return Buffer.from(isMapped(remote) ? remote : masked(remote, this.#mask)).toString("hex");
  }
}

export interface Rate {
  readonly most: number;
  readonly windowMs: number;
}

/** At most so many in any window of that length, wherever it begins. */
export class RateWindow {
  readonly #rate: Rate;
  /** When each of the last `most` happened, oldest first. */
  readonly #times: number[] = [];

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** How many may happen now. */
  room(now: number): number {
    this.#forget(now);
    return this.#rate.most - this.#times.length;
  }

  /** Milliseconds until there is room for one. */
  delay(now: number): number {
    if (this.room(now) > 0) return 0;
    return this.#times[0]! + this.#rate.windowMs - now;
  }

  note(now: number): void {
    this.#times.push(now);
  }

  #forget(now: number): void {
    const current = this.#times.findIndex((time) => now - time < this.#rate.windowMs);
    this.#times.splice(0, current < 0 ? this.#times.length : current);
  }
}
