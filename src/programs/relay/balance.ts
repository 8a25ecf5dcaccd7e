/** Which target comes first, and which after it: decisions only, the clock is handed in. */
import type { Balance } from "../../config/relay.ts";
import type { Address } from "../../model/address.ts";

interface State {
  readonly key: string;
  active: number;
  /** The last attempt failed. */
  down: boolean;
  /** Until then it is tried last, because it could not be reached. */
  avoidedUntil: number;
}

export class Balancer {
  readonly #balance: Balance;
  readonly #retryMs: number;
  readonly #states: readonly State[];
  #next = 0;

  /** `keys` tell the targets apart, whatever their order; the methods speak of them by index. */
  constructor(balance: Balance, keys: readonly string[], retryMs: number) {
    this.#balance = balance;
    this.#retryMs = retryMs;
    this.#states = keys.map((key) => ({ key, active: 0, down: false, avoidedUntil: 0 }));
  }

  /** All targets in the order to try them for a connection from `source`. */
  order(source: Address, now: number): number[] {
    if (this.#states.length === 1) return [0];
    const order = this.#ranked(source);
    const avoided = (index: number) => this.#states[index]!.avoidedUntil > now;
    return [...order.filter((index) => !avoided(index)), ...order.filter(avoided)];
  }

  /** A connection stands. Returns whether that is news. */
  reached(index: number): boolean {
    const state = this.#states[index]!;
    const news = state.down;
    state.active++;
    state.down = false;
    state.avoidedUntil = 0;
    return news;
  }

  /** It has ended. */
  released(index: number): void {
    this.#states[index]!.active--;
  }

  /** Returns whether this is news. */
  failed(index: number, now: number): boolean {
    const state = this.#states[index]!;
    const news = !state.down;
    state.down = true;
    state.avoidedUntil = now + this.#retryMs;
    return news;
  }

  #ranked(source: Address): number[] {
    const count = this.#states.length;
    const first = this.#next;
    this.#next = (first + 1) % count;
    const turn = Array.from({ length: count }, (_, index) => (first + index) % count);
    switch (this.#balance) {
      case "round-robin":
        return turn;
      case "least-connections":
        // Equal ones take turns: the sort is stable.
        return turn.sort((a, b) => this.#states[a]!.active - this.#states[b]!.active);
      case "source": {
        const ranks = this.#states.map(({ key }) => rank(source, key));
        return turn.sort((a, b) => ranks[b]! - ranks[a]!);
      }
    }
  }
}

/**
 * Rendezvous hashing (Thaler, Ravishankar 1998): the target with the highest rank has the source, and when it goes,
 * only its own sources move. FNV-1a, then the finalizer of MurmurHash3, without which similar addresses stay close.
 */
function rank(source: Address, key: string): number {
  let bits = 0x811c9dc5;
  for (const byte of source) bits = Math.imul(bits ^ byte, 0x01000193);
  for (let i = 0; i < key.length; i++) bits = Math.imul(bits ^ key.charCodeAt(i), 0x01000193);
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
