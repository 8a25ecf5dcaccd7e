/**
 * Properties that are tried on many inputs: in the suite a few, always the same; with SOCKETBOX_FUZZ_SECONDS those of a
 * file for so long together, from a seed that is printed, and that SOCKETBOX_FUZZ_SEED sets again.
 */
import { test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";

const seconds = Number(process.env.SOCKETBOX_FUZZ_SECONDS ?? 0);
const seed = Number(process.env.SOCKETBOX_FUZZ_SEED ?? (seconds ? Date.now() % 0x7fffffff : 1));
if (seconds) console.log(`SOCKETBOX_FUZZ_SEED=${seed}`);

export const CORPUS = join(import.meta.dir, "corpus");

/** The properties of one file: all of them are known before the first is tried. */
let group = { size: 0, tried: false };

/** A test that tries `property` on `runs` inputs, or for its share of the time that was asked for. */
export function holds<Input>(
  name: string,
  runs: number,
  property: fc.IProperty<Input> | fc.IAsyncProperty<Input>,
): void {
  if (group.tried) group = { size: 0, tried: false };
  const ours = group;
  ours.size++;
  test(name, async () => {
    ours.tried = true;
    const timed = { numRuns: 1e9, interruptAfterTimeLimit: (seconds * 1000) / ours.size };
    const amount = seconds ? timed : { numRuns: runs };
    await fc.assert(property as fc.IAsyncProperty<Input>, { seed, includeErrorInReport: true, ...amount });
  });
}

/** The inputs that are kept in a folder of the corpus, by name. */
export function kept(folder: string): [name: string, bytes: Buffer][] {
  const path = join(CORPUS, folder);
  return readdirSync(path)
    .sort()
    .map((name) => [name, readFileSync(join(path, name))]);
}

/** One change of a list: from `at` on, a part of its length, `length` items give way to `items`. */
interface Change<Item> {
  readonly at: number;
  readonly length: number;
  readonly items: readonly Item[];
}

function change<Item>(list: readonly Item[], { at, length, items }: Change<Item>): Item[] {
  const start = Math.floor(at * (list.length + 1));
  return [...list.slice(0, start), ...items, ...list.slice(start + length)];
}

/** One of `lists`, changed in a few places: items go, and others come, new ones or pieces of the lists. */
function mutated<Item>(lists: readonly (readonly Item[])[], item: fc.Arbitrary<Item>): fc.Arbitrary<Item[]> {
  const list = fc.constantFrom(...lists);
  const place = fc.double({ min: 0, max: 1, noNaN: true });
  const piece = fc
    .tuple(list, place, fc.integer({ min: 1, max: 12 }))
    .map(([from, at, length]) => from.slice(Math.floor(at * from.length)).slice(0, length));
  const changed = fc.record({
    at: place,
    length: fc.oneof(fc.constantFrom(0, 1), fc.nat(12)),
    items: fc.oneof(
      { weight: 3, arbitrary: fc.array(item, { maxLength: 2 }) },
      { weight: 1, arbitrary: piece },
    ),
  });
  return fc
    .tuple(list, fc.array(changed, { maxLength: 5 }))
    .map(([start, changes]) => changes.reduce<readonly Item[]>(change, start) as Item[]);
}

const NUMBERS = ["0", "-1", "65535", "65536", "4294967295", "4294967296", "1e3", "0x10", "08", "1.5", "nan"];
const NUISANCES = [
  "\0",
  "\r",
  "\n",
  "\t",
  "\u2028",
  "\ufeff",
  "\u{1f600}",
  "é",
  '"',
  "'",
  "#",
  "\\",
  "=",
  ":",
];

/** One of the texts, changed in a few words; `words` are those that mean something. */
export function mutatedText(texts: readonly string[], words: readonly string[]): fc.Arbitrary<string> {
  const lists = texts.map((text) => text.match(/[\w.-]+|\s|./gsu) ?? []);
  const word = fc.oneof(
    fc.constantFrom(...words),
    fc.constantFrom(...NUMBERS, ...NUISANCES),
    fc.string({ unit: "binary", maxLength: 3 }),
  );
  return mutated<string>(lists, word).map((list) => list.join(""));
}

/** The same with bytes. */
export function mutatedBytes(inputs: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const byte = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 }));
  const lists = inputs.map((bytes) => [...bytes]);
  return mutated<number>(lists, byte).map((list) => Uint8Array.from(list));
}
