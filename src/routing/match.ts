/** The table's answer for a flow. This runs for every connection: it allocates nothing. */
import type { Flow } from "../model/flow.ts";
import type { Draft, DraftRoute } from "./draft.ts";
import { flowWords } from "./record.ts";
import { slotOf } from "./shape.ts";
import { FIRST_JUMP, type RouteTable, routeOfRank, type Shape, type Table, type Verdict } from "./table.ts";

/**
 * The verdict for the flow whose record (record.ts) starts at word `at` of `flows`, and which came in by the
 * listener with this index.
 */
export function route(table: Table, flows: Uint32Array, at: number, listener: number): Verdict {
  return walk(table, flows, at, listener);
}

export interface Step {
  /** The name of the table. */
  readonly table: string;
  /** The route that was taken in it; `undefined` when none fits. */
  readonly route: DraftRoute | undefined;
}

export interface Explanation {
  readonly steps: readonly Step[];
  readonly verdict: Verdict;
}

/** How {@link route} comes to its verdict. `draft` is what `table` was compiled from. */
export function explain(table: Table, draft: Draft, flow: Flow): Explanation {
  const steps: Step[] = [];
  const verdict = walk(table, flowWords(flow), 0, flow.listener, (index, rank) => {
    const { name, routes } = draft.tables[index]!;
    steps.push({ table: name, route: routeOfRank(rank, routes) });
  });
  return { steps, verdict };
}

type Observer = (table: number, rank: number) => void;

/** It ends because compile.ts lets no circle of jumps pass. */
function walk(table: Table, flows: Uint32Array, at: number, listener: number, observe?: Observer): Verdict {
  let index = 0;
  for (;;) {
    const { shapes, verdicts }: RouteTable = table.tables[index]!;
    const rank = highestRank(shapes, flows, at, listener);
    observe?.(index, rank);
    const verdict = verdicts[rank]!;
    if (verdict > FIRST_JUMP) return verdict;
    index = FIRST_JUMP - verdict;
  }
}

/** The rank of the first route that fits, 0 when none does. */
export function highestRank(
  shapes: readonly Shape[],
  flows: Uint32Array,
  at: number,
  listener: number,
): number {
  let rank = 0;
  for (let i = 0; i < shapes.length && shapes[i]!.highest > rank; i++) {
    const shape = shapes[i]!;
    rank = Math.max(rank, shape.slots[slotOf(shape, flows, at, listener)]!);
  }
  return rank;
}
