/** Which target comes first, and which after it: decisions only, the clock is handed in. */
import type { Balance } from "../../config/relay.ts";
import { isMapped } from "../../model/address.ts";
import type { Flow } from "../../model/flow.ts";
import { rank, seedOf } from "../../routing/rendezvous.ts";

interface Balanced {
  readonly flow: Pick<Flow, "remote">;
}

const ONLY: readonly number[] = [0];

/** One target, for all who know it. */
export interface TargetState {
  readonly seed: number;
  active: number;
  /** The last attempt failed. */
  down: boolean;
  /** Until then it is tried last, because it could not be reached. */
  avoidedUntil: number;
}

/** `key` tells it from others, whatever their order. */
export function newTarget(key: string): TargetState {
  return { seed: seedOf(key), active: 0, down: false, avoidedUntil: 0 };
}

export class Balancer {
  readonly #balance: Balance;
  readonly #retryMs: number;
  readonly #states: readonly TargetState[];
  #next = 0;

  /** The methods speak of `targets` by index. */
  constructor(balance: Balance, targets: readonly TargetState[], retryMs: number) {
    this.#balance = balance;
    this.#retryMs = retryMs;
    this.#states = targets;
  }

  /** All targets in the order to try them for a connection. */
  order(connection: Balanced, now: number): readonly number[] {
    if (this.#states.length === 1) return ONLY;
    const order = this.#ranked(connection);
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

  #ranked(connection: Balanced): number[] {
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
        const { remote } = connection.flow;
        const words = new Uint32Array(remote.slice().buffer);
        // A client of IPv6 is its /64: within it, it takes other addresses as it likes (RFC 8981).
        const [from, to] = isMapped(remote) ? [3, 4] : [0, 2];
        const ranks = this.#states.map(({ seed }) => rank(seed, words, from, to));
        return turn.sort((a, b) => ranks[b]! - ranks[a]!);
      }
    }
  }
}
