/**
 * A compiled draft. It is plain data, typed arrays and numbers, so that it can be posted to a Worker.
 *
 * The time of a lookup must not grow with the number of routes, yet the first route that fits must win. Tuple
 * space search (Srinivasan, Suri, Varghese, "Packet classification using tuple space search", SIGCOMM 1999)
 * has both: routes that compare the same bits have the same *shape*, and each shape is one hash table from
 * those bits to the first route that wants them so.
 */
import type { Target } from "../model/target.ts";

/**
 * What a lookup says: the index of a target in {@link Table.targets}, or NO_ROUTE, or DENIED. Inside a table
 * every number from {@link FIRST_JUMP} down is a jump, and never comes out of a lookup.
 */
export type Verdict = number;
export const NO_ROUTE = -1;
export const DENIED = -2;
/** A jump to `tables[i]` is `FIRST_JUMP - i`. */
export const FIRST_JUMP = -3;

export interface Table {
  /** In the order of the draft; `tables[0]` is where every lookup starts. Jumps make no circles. */
  readonly tables: readonly RouteTable[];
  /** Every target once. */
  readonly targets: readonly Target[];
}

/**
 * Routes are known by their rank, which counts from the end: the last one has rank 1, the first the highest.
 * So "no route" is rank 0, and of two routes that fit the greater rank wins.
 */
export interface RouteTable {
  /** Those with the highest rank come first: a search can stop at a shape that cannot beat what it has. */
  readonly shapes: readonly Shape[];
  /** By rank; `verdicts[0]` is NO_ROUTE. */
  readonly verdicts: Int32Array;
}

export interface Shape {
  /** Which words of a flow are compared, and which of their bits; two arrays of the same length. */
  readonly words: Uint8Array;
  readonly masks: Int32Array;
  /**
   * What the first of these words must be, being the same in every route of the shape (the network that all
   * addresses lie in, for one). Keeping them out of the slots makes the slots small, and so the caches large.
   */
  readonly shared: Int32Array;
  /**
   * An open-addressing hash table. Each slot is the rank of a route (0: the slot is free) and then what the
   * other words must be: one piece of memory, so that a lookup costs one cache miss. After the last slot
   * stands one more 0, for searches that fail before they come to a slot.
   */
  readonly slots: Int32Array;
  /** 32 less the logarithm of the number of slots: the top bits of a hash choose the slot. */
  readonly shift: number;
  /** The highest rank in `slots`. */
  readonly highest: number;
}

export function rankOf(index: number, routes: readonly unknown[]): number {
  return routes.length - index;
}

/** The route of this rank; none for rank 0. */
export function routeOfRank<Route>(rank: number, routes: readonly Route[]): Route | undefined {
  return routes[routes.length - rank];
}
