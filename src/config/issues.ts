/** What the schema says against a document, in our words, and the document without it. */
import * as v from "valibot";
import { Fault, quoted, shown } from "./fault.ts";
import type { Way } from "./places.ts";
import { ACTIONS, ALLOWS, DocumentSchema, RECEIVERS, SLOTS } from "./schema.ts";

export interface Misshape {
  readonly way: Way;
  /** Whether the fault is about the last key of the way, or about its value. */
  readonly part: "key" | "value";
  readonly fault: Fault;
}

type Issue = v.BaseIssue<unknown>;

/** A kind of document. */
export interface Shape {
  readonly schema: v.GenericSchema;
  /** What a key that is missing would have to hold. */
  wanted(way: Way): string;
}

const SERVER_SHAPE: Shape = {
  schema: DocumentSchema,
  wanted,
};

/** Everything that is wrong with the shape of `document`, at most one fault for each place. */
export function misshapes(document: unknown, shape: Shape = SERVER_SHAPE): Misshape[] {
  const { issues = [] } = v.safeParse(shape.schema, withVisibleNames(document));
  const found = issues.flatMap(innermost).map((issue) => translate(issue, shape));
  const ways = new Set<string>();
  return found.filter(({ way, fault }) => {
    const key = JSON.stringify([way, fault.what]);
    return !ways.has(key) && ways.add(key);
  });
}

/** valibot passes over entries of these names, whatever is in them; for its eyes they end in a NUL. */
const PASSED_OVER = ["__proto__", "prototype", "constructor"];

function withVisibleNames(document: unknown): unknown {
  const tables = Object.entries(document as object).map(([key, inside]) => {
    if (!PASSED_OVER.some((name) => typeof inside === "object" && Object.hasOwn(inside, name)))
      return [key, inside];
    const entries = Object.entries(inside as object);
    return [key, Object.fromEntries(entries.map(([name, value]) => [visibleName(name), value]))];
  });
  return Object.fromEntries(tables);
}

function visibleName(name: string): string {
  return PASSED_OVER.includes(name) ? `${name}\0` : name;
}

/** Takes out of `document` whatever is misshapen, so that the rest can still be read for its own faults. */
export function prune(document: unknown, found: readonly Misshape[]): void {
  for (const { way } of found) {
    let holder = document as Record<string | number, unknown> | undefined;
    for (const step of way.slice(0, -1)) holder = holder?.[step] as typeof holder;
    const last = way.at(-1);
    if (holder && last !== undefined) holder[last] = undefined;
  }
}

/** Where a value may be one thing or a list of it, what is wrong inside the list says more than "neither". */
function innermost(issue: Issue): Issue[] {
  const inside = issue.issues?.filter(({ path }) => path !== undefined) ?? [];
  if (inside.length === 0) return [issue];
  return inside.flatMap((inner) =>
    innermost({ ...inner, path: [...(issue.path ?? []), ...inner.path!] } as Issue),
  );
}

function translate({ type, expected, input, message, path }: Issue, shape: Shape): Misshape {
  const way = (path ?? []).map(({ key }) =>
    typeof key === "string" ? key.replace(/\0$/, "") : (key as number),
  );
  const name = way.at(-1) ?? "document";
  if (type === "strict_object" && expected === "never") {
    return { way, part: "key", fault: new Fault(`unknown key ${quoted(String(name))}`, message) };
  }
  if (type === "strict_object" && input === undefined) {
    return { way, part: "value", fault: new Fault(`there is no ${quoted(String(name))}`, shape.wanted(way)) };
  }
  const noun = typeof name === "number" ? String(way.findLast((step) => typeof step === "string")) : name;
  return { way, part: "value", fault: new Fault(`${shown(String(noun))} is ${valueText(input)}`, message) };
}

/** What a key that must be there takes. */
function wanted(way: Way): string {
  if (way[0] === "registry") return { path: "/path or @name", slot: SLOTS }[String(way.at(-1))] ?? ALLOWS;
  return way[0] === "target" ? RECEIVERS : ACTIONS;
}

function valueText(value: unknown): string {
  if (typeof value === "string") return quoted(value);
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (value instanceof Date) return "a date";
  return typeof value === "object" ? "a table" : String(value);
}
