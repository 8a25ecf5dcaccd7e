/** Warnings for routes that no flow can take, because earlier routes of their table take all they would. */
import { type Diagnostic, formatPlace } from "../model/diagnostic.ts";
import type { DraftRoute } from "./draft.ts";
import type { Entries } from "./entries.ts";
import { highestRank } from "./match.ts";
import { FLOW_WORDS, LISTENER_WORD } from "./record.ts";
import { routeOfRank, type Shape } from "./table.ts";

/**
 * An entry is covered when its own key, looked up in the shapes that compare no bit that the entry does not,
 * finds an earlier route. A route is unreachable when all its entries are covered. What several entries cover
 * only together goes unnoticed.
 */
export function unreachableRoutes(
  routes: readonly DraftRoute[],
  entries: Entries,
  shapes: readonly Shape[],
): Diagnostic[] {
  const { ranks, masks } = entries;
  const looser = masks.map((mask) => shapes.filter((_, i) => isSubset(masks[i]!, mask)));
  const diagnostics: Diagnostic[] = [];
  for (let first = 0, end = 0; first < ranks.length; first = end) {
    const rank = ranks[first]!;
    while (ranks[end] === rank) end++;
    const covers = coversOf(entries, first, end, looser);
    if (covers) diagnostics.push(unreachable(rank, covers, routes));
  }
  return diagnostics;
}

/** The ranks that cover these entries of one route; `undefined` when an entry is not covered. */
function coversOf(
  { keys, ranks, maskOf }: Entries,
  first: number,
  end: number,
  looser: readonly (readonly Shape[])[],
): ReadonlySet<number> | undefined {
  const covers = new Set<number>();
  for (let n = first; n < end; n++) {
    const at = n * FLOW_WORDS;
    const cover = highestRank(looser[maskOf[n]!]!, keys, at, keys[at + LISTENER_WORD]!);
    if (cover === ranks[n]) return undefined;
    covers.add(cover);
  }
  return covers;
}

function unreachable(rank: number, covers: ReadonlySet<number>, routes: readonly DraftRoute[]): Diagnostic {
  const { place } = routeOfRank(rank, routes)!;
  const places = Array.from(covers, (cover) => formatPlace(routeOfRank(cover, routes)!.place));
  const take = places.length === 1 ? "takes" : "take";
  const what = `this route is never reached: ${places.join(" and ")} ${take} all that it would`;
  return { severity: "warning", place, what, expected: "" };
}

function isSubset(mask: Uint32Array, of: Uint32Array): boolean {
  return mask.every((word, i) => (word & ~of[i]!) === 0);
}
