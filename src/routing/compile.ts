/** From a draft to the table that flows are looked up in. */
import type { Diagnostic } from "../model/diagnostic.ts";
import type { Target } from "../model/target.ts";
import type { Action, Draft, DraftTable } from "./draft.ts";
import { countEntries, expandRoutes } from "./entries.ts";
import { idleTables, tableErrors, tableIndices } from "./jumps.ts";
import { unreachableRoutes } from "./reach.ts";
import { makeShapes } from "./shape.ts";
import { DENIED, FIRST_JUMP, NO_ROUTE, rankOf, type Shape, type Table, type Verdict } from "./table.ts";

/** The most entries (entries.ts) that a draft may come to: loading them takes about a second. */
export const ENTRIES_MAX = 1 << 20;
/** Every shape of a table is one more search for each flow; with more than these it is worth a warning. */
export const SHAPES_MAX = 64;

export interface Compilation {
  /** There exactly when no diagnostic is an error. */
  readonly table?: Table;
  /** Either all errors or all warnings. */
  readonly diagnostics: readonly Diagnostic[];
}

export function compile(draft: Draft): Compilation {
  const errors = [...tableErrors(draft), ...tooManyEntries(draft)];
  if (errors.length > 0) return { diagnostics: errors };
  const warnings = [idleTables(draft)];
  const targets = new Map<Target, number>();
  const indices = tableIndices(draft);
  const tables = draft.tables.map((table) => {
    const { routes } = table;
    const entries = expandRoutes(routes);
    const shapes = makeShapes(entries);
    warnings.push(tooManyShapes(table, shapes), unreachableRoutes(routes, entries, shapes));
    const verdicts = new Int32Array(routes.length + 1).fill(NO_ROUTE);
    for (const [i, { action }] of routes.entries()) {
      verdicts[rankOf(i, routes)] = verdictOf(action, targets, indices);
    }
    return { shapes, verdicts };
  });
  return { table: { tables, targets: [...targets.keys()] }, diagnostics: warnings.flat() };
}

/** Adds a target that is not among `targets` yet. */
function verdictOf(
  action: Action,
  targets: Map<Target, number>,
  tables: ReadonlyMap<string, number>,
): Verdict {
  switch (action.kind) {
    case "deny":
      return DENIED;
    case "table":
      return FIRST_JUMP - tables.get(action.table)!;
    case "target": {
      const index = targets.get(action.target) ?? targets.size;
      targets.set(action.target, index);
      return index;
    }
  }
}

function tooManyEntries({ tables }: Draft): Diagnostic[] {
  let total = 0;
  for (const route of tables.flatMap(({ routes }) => routes)) {
    const count = countEntries(route);
    total += count;
    if (total <= ENTRIES_MAX) continue;
    const what = `with the ${count} combinations of this route there are more than ${ENTRIES_MAX} in all`;
    return [
      { severity: "error", place: route.place, what, expected: "fewer alternatives, or rounder port ranges" },
    ];
  }
  return [];
}

function tooManyShapes({ name, place }: DraftTable, shapes: readonly Shape[]): Diagnostic[] {
  if (shapes.length <= SHAPES_MAX) return [];
  const what = `table ${name} compares flows in ${shapes.length} different ways, and each costs a search`;
  const expected = `at most ${SHAPES_MAX}: fewer prefix lengths, rounder port ranges`;
  return [{ severity: "warning", place, what, expected }];
}
