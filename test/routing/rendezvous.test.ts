import { expect, test } from "bun:test";
import { rank, seedOf } from "../../src/routing/rendezvous.ts";

const NAMES = Array.from({ length: 10 }, (_, n) => `unix:/run/web.${n}`);
const SEEDS = NAMES.map(seedOf);

function first(key: number, seeds: readonly number[] = SEEDS): number {
  const ranks = seeds.map((seed) => rank(seed, Uint32Array.of(key), 0, 1));
  return ranks.indexOf(Math.max(...ranks));
}

test("names that differ in one digit share neighbouring keys evenly", () => {
  const counts = new Array<number>(NAMES.length).fill(0);
  for (let key = 0; key < 100_000; key++) counts[first(key)]!++;
  // 10,000 each, a standard deviation of 95.
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(700);
});

test("a name that is added takes keys from all others, and moves no other key", () => {
  const fewer = SEEDS.slice(0, -1);
  for (let key = 0; key < 2000; key++) {
    const now = first(key);
    if (now !== SEEDS.length - 1) expect(first(key, fewer)).toBe(now);
  }
});

test("only the words that are asked for count", () => {
  const words = Uint32Array.of(1, 2, 3, 4);
  expect(rank(7, words, 1, 3)).toBe(rank(7, Uint32Array.of(2, 3), 0, 2));
  expect(rank(7, words, 1, 3)).not.toBe(rank(7, words, 1, 4));
});
