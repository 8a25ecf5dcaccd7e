import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Ways } from "../../src/io/ways.ts";

/** Ways that are numbers; those in `busy` are in use. */
function ways(idleMax: number) {
  const busy = new Set<number>();
  const closed: number[] = [];
  let looks = 0;
  const made = new Ways<number>(
    idleMax,
    (way) => {
      looks++;
      return !busy.has(way);
    },
    (way) => void closed.push(way),
  );
  return { made, busy, closed, looks: () => looks };
}

describe("ways that nobody uses", () => {
  test("are kept up to a number, and let go of beyond it", () => {
    const { made, closed } = ways(100);
    for (let way = 0; way < 1000; way++) made.set(String(way), way);
    expect(made.size).toBe(100);
    expect(closed).toHaveLength(900);
    expect(new Set(closed).size).toBe(900);
    for (const [name, way] of made) expect(made.get(name)).toBe(way);
    for (const way of closed) expect(made.get(String(way))).toBeUndefined();
  });

  test("become fewer again after many were in use", () => {
    const { made, busy } = ways(10);
    for (let way = 0; way < 500; way++) {
      busy.add(way);
      made.set(String(way), way);
    }
    expect(made.size).toBe(500);
    busy.clear();
    for (let way = 500; way < 1000; way++) made.set(String(way), way);
    expect(made.size).toBe(10);
  });
});

test("a way in use is never let go of", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.boolean(), { maxLength: 200 }),
      (most, inUse) => {
        const { made, busy, closed } = ways(most);
        for (const [way, used] of inUse.entries()) {
          if (used) busy.add(way);
          made.set(String(way), way);
          expect(made.get(String(way))).toBe(way);
        }
        expect(closed.filter((way) => busy.has(way))).toEqual([]);
        expect(made.size).toBe(inUse.length - closed.length);
      },
    ),
  );
});

test("a new way costs a look at a few others, however many there are in use", () => {
  const { made, busy, looks } = ways(256);
  for (let way = 0; way < 20_000; way++) {
    busy.add(way);
    made.set(String(way), way);
  }
  expect(made.size).toBe(20_000);
  expect(looks()).toBeLessThanOrEqual(4 * 20_000);
});

test("one that is deleted is not found, nor let go of twice", () => {
  const { made, closed } = ways(2);
  for (const way of [1, 2]) made.set(String(way), way);
  made.delete("1");
  expect(made.get("1")).toBeUndefined();
  for (const way of [3, 4, 5]) made.set(String(way), way);
  expect(closed).not.toContain(1);
});
