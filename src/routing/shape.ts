/** The hash table of one shape: how it is made, filled and searched. */
import type { Entries } from "./entries.ts";
import { FLOW_WORDS, LISTENER_WORD } from "./record.ts";
import type { Shape } from "./table.ts";

/** The part of the slots in use at most: more makes searches long, less makes tables outgrow the caches. */
const LOAD = 0.8;

/** The masked words of the flow that is being looked up; here, because a lookup allocates nothing. */
const key = new Int32Array(FLOW_WORDS);

/** What the entries with one mask have in common. */
interface Group {
  readonly mask: Uint32Array;
  /** The key of the first entry, and in which bits any other differs from it. */
  readonly key: Uint32Array;
  readonly varying: Uint32Array;
  highest: number;
  count: number;
}

/** One shape for each of `entries.masks`, in the same order: that of their highest rank. */
export function makeShapes(entries: Entries): Shape[] {
  const { keys, ranks, maskOf } = entries;
  const shapes = groupByMask(entries).map(createShape);
  for (let n = 0; n < ranks.length; n++) insert(shapes[maskOf[n]!]!, keys, n * FLOW_WORDS, ranks[n]!);
  return shapes;
}

/**
 * Where in `slots` the entry starts that the flow at word `at` fits, its rank first; where a 0 stands, when
 * there is none.
 */
export function slotOf(shape: Shape, flows: Uint32Array, at: number, listener: number): number {
  const { words, masks, shared, slots, shift } = shape;
  for (let i = 0; i < shared.length; i++) {
    if ((wordOf(words[i]!, flows, at, listener) & masks[i]!) !== shared[i]) return slots.length - 1;
  }
  let hash = 0;
  for (let i = shared.length; i < words.length; i++) {
    key[i] = wordOf(words[i]!, flows, at, listener) & masks[i]!;
    hash = mix(hash, key[i]!);
  }
  const stride = 1 + words.length - shared.length;
  let slot = (hash >>> shift) * stride;
  while (slots[slot] !== 0 && !holdsKey(slots, slot + 1, shared.length, words.length)) {
    slot += stride;
    if (slot === slots.length - 1) slot = 0;
  }
  return slot;
}

function wordOf(word: number, flows: Uint32Array, at: number, listener: number): number {
  return word === LISTENER_WORD ? listener : flows[at + word]!;
}

/** Whether the words of the key from `first` to before `end` stand at `at`. */
function holdsKey(slots: Int32Array, at: number, first: number, end: number): boolean {
  for (let i = first; i < end; i++) if (slots[at + i - first] !== key[i]) return false;
  return true;
}

/** Multiplying moves differences up, the shift brings them down again for the next word. */
function mix(hash: number, word: number): number {
  const product = Math.imul(hash ^ word, 0x9e3779b1);
  return product ^ (product >>> 15);
}

function groupByMask({ keys, ranks, maskOf, masks }: Entries): Group[] {
  const words = () => new Uint32Array(FLOW_WORDS);
  const groups: Group[] = masks.map((mask) => ({
    mask,
    key: words(),
    varying: words(),
    highest: 0,
    count: 0,
  }));
  for (let n = 0; n < ranks.length; n++) {
    const group = groups[maskOf[n]!]!;
    const at = n * FLOW_WORDS;
    if (group.count++ === 0) {
      group.highest = ranks[n]!;
      group.key.set(keys.subarray(at, at + FLOW_WORDS));
    }
    for (let word = 0; word < FLOW_WORDS; word++) {
      group.varying[word]! |= group.key[word]! ^ keys[at + word]!;
    }
  }
  return groups;
}

function createShape({ mask, key, varying, highest, count }: Group): Shape {
  const compared = [...mask.keys()].filter((word) => mask[word] !== 0);
  const shared = compared.filter((word) => varying[word] === 0);
  const own = compared.filter((word) => varying[word] !== 0);
  const bits = Math.max(1, Math.ceil(Math.log2(count / LOAD)));
  const words = Uint8Array.from([...shared, ...own]);
  return {
    words,
    masks: Int32Array.from(words, (word) => mask[word]!),
    shared: Int32Array.from(shared, (word) => key[word]!),
    slots: new Int32Array(((1 + own.length) << bits) + 1),
    shift: 32 - bits,
    highest,
  };
}

/** Of entries with one key the first to come stays: it has the highest rank. */
function insert(shape: Shape, keys: Uint32Array, at: number, rank: number): void {
  const { words, shared, slots } = shape;
  const slot = slotOf(shape, keys, at, keys[at + LISTENER_WORD]!);
  if (slots[slot] !== 0) return;
  slots[slot] = rank;
  for (let i = shared.length; i < words.length; i++) slots[slot + 1 + i - shared.length] = key[i]!;
}
