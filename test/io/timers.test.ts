import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Timers } from "../../src/io/timers.ts";

describe("timers", () => {
  test("run what is due, and nothing else", () => {
    const timers = new Timers();
    const ran: string[] = [];
    timers.add(20, () => ran.push("b"));
    timers.add(10, () => ran.push("a"));
    timers.add(30, () => ran.push("c"));
    timers.fire(9.9);
    expect(ran).toEqual([]);
    timers.fire(20);
    expect(ran).toEqual(["a", "b"]);
    timers.fire(20);
    expect(ran).toEqual(["a", "b"]);
    expect(timers.next).toBe(30);
    timers.fire(1000);
    expect(ran).toEqual(["a", "b", "c"]);
    expect(timers.next).toBe(Number.POSITIVE_INFINITY);
  });

  test("leave what is added meanwhile for the next call, even if it is due", () => {
    const timers = new Timers();
    let ran = 0;
    const again = () => {
      ran++;
      timers.add(0, again);
    };
    timers.add(0, again);
    timers.fire(5);
    expect(ran).toBe(1);
    timers.fire(5);
    expect(ran).toBe(2);
  });

  test("do not run what one that ran before has cancelled", () => {
    const timers = new Timers();
    const ran: string[] = [];
    timers.add(1, () => {
      ran.push("first");
      second.cancel();
    });
    const second = timers.add(2, () => ran.push("second"));
    const third = timers.add(3, () => ran.push("third"));
    timers.fire(3);
    expect(ran).toEqual(["first", "third"]);
    // Neither of them is there any more.
    second.cancel();
    third.cancel();
    expect(timers.next).toBe(Number.POSITIVE_INFINITY);
  });

  test("may cancel themselves, and be cancelled twice", () => {
    const timers = new Timers();
    const other = timers.add(9, () => {});
    const one = timers.add(1, () => one.cancel());
    timers.fire(1);
    one.cancel();
    expect(timers.next).toBe(9);
    other.cancel();
    other.cancel();
    expect(timers.next).toBe(Number.POSITIVE_INFINITY);
  });
});

type Step =
  | { readonly kind: "add"; readonly due: number }
  | { readonly kind: "cancel"; readonly which: number }
  | { readonly kind: "fire"; readonly now: number };

test("whatever is added and cancelled, each that is due runs once, in the order of time", () => {
  const time = fc.nat(100);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("add" as const), due: time }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(50) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("fire" as const), now: time }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const timers = new Timers();
      const made: { due: number; cancel: () => void }[] = [];
      const waiting = new Set<number>();
      const ran: number[] = [];
      for (const step of steps) {
        if (step.kind === "add") {
          const id = made.length;
          made.push({ due: step.due, ...timers.add(step.due, () => ran.push(id)) });
          waiting.add(id);
        } else if (step.kind === "cancel") {
          made[step.which]?.cancel();
          waiting.delete(step.which);
        } else {
          const due = [...waiting].filter((id) => made[id]!.due <= step.now);
          ran.length = 0;
          timers.fire(step.now);
          expect([...ran].sort((a, b) => a - b)).toEqual(due);
          expect(ran.map((id) => made[id]!.due)).toEqual(
            due.map((id) => made[id]!.due).sort((a, b) => a - b),
          );
          for (const id of due) waiting.delete(id);
        }
        expect(timers.next).toBe(Math.min(...[...waiting].map((id) => made[id]!.due)));
      }
    }),
  );
});
