/** The tables of a draft and the jumps between them: each name is there once, each way ends, none is idle. */
import { type Diagnostic, formatPlace, type Place } from "../model/diagnostic.ts";
import type { Draft, DraftRoute } from "./draft.ts";

/** For one table, the tables that it jumps to, each with the first route that does. */
type Jumps = ReadonlyMap<number, DraftRoute>;

/** A draft without tables has no file to point at. */
const NOWHERE: Place = { file: "configuration", line: 0, column: 0 };
const NAMES_SHOWN = 8;

/** Where in the draft the table of each name is; the first of that name. */
export function tableIndices({ tables }: Draft): ReadonlyMap<string, number> {
  const indices = new Map<string, number>();
  for (const [index, { name }] of tables.entries()) if (!indices.has(name)) indices.set(name, index);
  return indices;
}

/** Where there are none of these, every lookup has a table to look in, and comes to an end. */
export function tableErrors(draft: Draft): Diagnostic[] {
  if (draft.tables.length === 0) {
    return [
      { severity: "error", place: NOWHERE, what: "there is no table of routes", expected: "at least one" },
    ];
  }
  return [...duplicateNames(draft), ...missingTables(draft), ...circles(draft)];
}

/** Warnings for tables that no lookup comes to. */
export function idleTables(draft: Draft): Diagnostic[] {
  const jumps = jumpsOf(draft);
  const reached = new Set([0]);
  // What is added to a set while it is walked is walked too.
  for (const index of reached) for (const to of jumps[index]!.keys()) reached.add(to);
  const idle = draft.tables.filter((_, index) => !reached.has(index));
  return idle.map(({ name, place }) => {
    const what = `no jump leads from table ${draft.tables[0]!.name} to table ${name}`;
    return { severity: "warning", place, what, expected: "" };
  });
}

function duplicateNames(draft: Draft): Diagnostic[] {
  const indices = tableIndices(draft);
  const again = draft.tables.filter(({ name }, index) => indices.get(name) !== index);
  return again.map(({ name, place }) => {
    const first = formatPlace(draft.tables[indices.get(name)!]!.place);
    return {
      severity: "error",
      place,
      what: `table ${name} is there already, at ${first}`,
      expected: "another name",
    };
  });
}

function* missingTables(draft: Draft): Generator<Diagnostic> {
  const indices = tableIndices(draft);
  const names = [...indices.keys()].slice(0, NAMES_SHOWN).join(", ");
  const expected = `one of ${names}${indices.size > NAMES_SHOWN ? ", …" : ""}`;
  for (const route of draft.tables.flatMap(({ routes }) => routes)) {
    const { action } = route;
    if (action.kind !== "table" || indices.has(action.table)) continue;
    yield { severity: "error", place: route.place, what: `there is no table ${action.table}`, expected };
  }
}

/** Follows every jump once; one that leads to a table on the way to it closes a circle. */
export function* circles(draft: Draft): Generator<Diagnostic> {
  const jumps = jumpsOf(draft);
  const seen = new Set<number>();
  const way = new Set<number>();
  // A stack of our own, for a chain of jumps may be longer than the call stack is deep.
  const open: { index: number; ahead: Iterator<[number, DraftRoute]> }[] = [];
  const enter = (index: number) => {
    seen.add(index);
    way.add(index);
    open.push({ index, ahead: jumps[index]!.entries() });
  };
  for (const start of jumps.keys()) {
    if (!seen.has(start)) enter(start);
    for (let here = open.at(-1); here; here = open.at(-1)) {
      const jump = here.ahead.next();
      if (jump.done) {
        way.delete(here.index);
        open.pop();
      } else if (way.has(jump.value[0])) {
        yield circle(draft, [...way], jump.value);
      } else if (!seen.has(jump.value[0])) {
        enter(jump.value[0]);
      }
    }
  }
}

function circle(
  { tables }: Draft,
  way: readonly number[],
  [to, { place }]: [number, DraftRoute],
): Diagnostic {
  const ring = [...way.slice(way.indexOf(to)), to].map((index) => tables[index]!.name);
  return { severity: "error", place, what: `tables ${ring.join(" -> ")} jump in a circle`, expected: "" };
}

function jumpsOf(draft: Draft): Jumps[] {
  const indices = tableIndices(draft);
  return draft.tables.map(({ routes }) => {
    const jumps = new Map<number, DraftRoute>();
    for (const route of routes) {
      const to = route.action.kind === "table" ? indices.get(route.action.table) : undefined;
      if (to !== undefined && !jumps.has(to)) jumps.set(to, route);
    }
    return jumps;
  });
}
