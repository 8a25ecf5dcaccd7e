/** What the shapes of the TOML files are made of. The message of each check says what would have been right. */
import * as v from "valibot";

export const ADDRESSES = '"ADDRESS", "ADDRESS/LENGTH" or "ADDRESS/MASK"';

/** What an editor shows and checks beside the kind of value. */
interface Notes {
  readonly description?: string;
  readonly pattern?: string;
  readonly default?: string | number | boolean;
  readonly examples?: readonly (string | number)[];
}

export function text(expected: string, notes: Notes) {
  return v.pipe(v.string(expected), v.nonEmpty(expected), v.metadata({ ...notes }));
}

export function whole(first: number, last: number, notes: Notes, expected = `${first} to ${last}`) {
  return v.pipe(
    v.number(expected),
    v.integer(expected),
    v.minValue(first, expected),
    v.maxValue(last, expected),
    v.metadata({ ...notes }),
  );
}

export function flag(notes: Notes) {
  return v.optional(v.pipe(v.boolean("true or false"), v.metadata({ ...notes })));
}

/** A table with these keys and no others. Its message lists them. */
export function table<const Entries extends v.ObjectEntries>(entries: Entries, notes: Notes) {
  const keys = Object.keys(entries).join(", ");
  return v.pipe(trueTable(v.strictObject(entries, keys), keys, entries), v.metadata({ ...notes }));
}

/** Tables of one kind, by name. */
export function named<const Value extends v.GenericSchema>(
  value: Value,
  expected: string,
  description: string,
) {
  const record = trueTable(v.record(v.string(), value, expected), expected);
  return v.optional(v.pipe(record, v.metadata({ description })));
}

/** valibot takes lists and dates for tables too, and stops at the first key that is not among `entries`. */
function trueTable<const Schema extends v.GenericSchema>(
  schema: Schema,
  expected: string,
  entries?: v.ObjectEntries,
): Schema {
  const refusal = v.custom<never>(() => false, expected);
  return {
    ...schema,
    "~run"(dataset, config) {
      const input = dataset.value;
      if (Array.isArray(input) || input instanceof Date) return refusal["~run"](dataset, config);
      const result = schema["~run"](dataset, config);
      if (entries && result.issues) addUnknownKeys(schema, input as Tree, entries, result, config);
      return result;
    },
  };
}

type Tree = Record<string, unknown>;

/** All but the first one, which has been found already. */
function addUnknownKeys(
  schema: v.GenericSchema,
  input: Tree,
  entries: v.ObjectEntries,
  result: v.OutputDataset<unknown, v.BaseIssue<unknown>>,
  config: v.Config<v.BaseIssue<unknown>>,
): void {
  const unknown = Object.keys(input).filter((key) => !Object.hasOwn(entries, key));
  for (const key of unknown.slice(1)) {
    const path: [v.ObjectPathItem] = [{ type: "object", origin: "key", input, key, value: input[key] }];
    v._addIssue(schema, "key", result, config, { input: key, expected: "never", path });
  }
}

/** One value, or a list of alternatives. */
export function oneOrMore<const Item extends v.GenericSchema>(item: Item, expected: string, notes: Notes) {
  const list = v.pipe(v.array(item, expected), v.minLength(1, expected));
  return v.optional(v.pipe(v.union([item, list], expected), v.metadata({ ...notes })));
}

export const addresses = (description: string) => {
  const item = text(ADDRESSES, { pattern: "^[0-9A-Fa-f:.]+(/[0-9A-Fa-f:.]+)?$" });
  return oneOrMore(item, ADDRESSES, { description, examples: ["2001:db8::/64", "192.0.2.1"] });
};
