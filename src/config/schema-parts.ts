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
  return v.pipe(v.strictObject(entries, Object.keys(entries).join(", ")), v.metadata({ ...notes }));
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
