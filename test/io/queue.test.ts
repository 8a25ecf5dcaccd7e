import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Queue } from "../../src/io/queue.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { FLOW_WORDS } from "../../src/routing/record.ts";

/** What a test knows of a connection; its record is made of its number. */
interface Connection {
  readonly id: number;
  readonly listener: number;
  since: number;
}

function record(id: number): Uint32Array {
  const flow = Uint32Array.from({ length: FLOW_WORDS }, (_, word) => id * 100 + word);
  flow[FLOW_FD_WORD] = id;
  return flow;
}

/** A queue beside the list that it should be. */
class Modelled {
  readonly queue = new Queue();
  readonly list: Connection[] = [];
  static #last = 0;

  add(listener: number): void {
    const id = ++Modelled.#last;
    // Not at the beginning of what it is taken from.
    const flows = new Uint32Array(3 * FLOW_WORDS);
    flows.set(record(id), 2 * FLOW_WORDS);
    this.queue.add(flows, 2 * FLOW_WORDS, listener);
    this.list.push({ id, listener, since: 0 });
  }

  stamp(position: number, now: number): void {
    this.queue.stamp(position, now);
    for (const connection of this.list.slice(position)) connection.since ||= now;
  }

  close(chosen: (position: number) => boolean): void {
    const { fds } = this.queue;
    const left = this.list.filter((_, position) => !chosen(position));
    for (const position of this.list.keys()) if (chosen(position)) fds[position] = -1;
    this.queue.dropClosed();
    this.list.splice(0, this.list.length, ...left);
  }

  check(): void {
    const { queue, list } = this;
    expect(queue.size).toBe(list.length);
    expect([...queue.fds.subarray(0, list.length)]).toEqual(list.map(({ id }) => id));
    for (const [position, { id, listener, since }] of list.entries()) {
      const at = queue.recordAt(position);
      expect(queue.flows.subarray(at, at + FLOW_WORDS)).toEqual(record(id));
      expect(queue.listener(position)).toBe(listener);
      expect(queue.since(position)).toBe(since);
    }
  }
}

describe("a queue", () => {
  test("keeps connections in the order in which they came, however many", () => {
    const modelled = new Modelled();
    for (let i = 0; i < 1000; i++) modelled.add(i % 7);
    modelled.check();
  });

  test("gives its room back: what goes at the front makes place at the end", () => {
    const modelled = new Modelled();
    for (let i = 0; i < 40; i++) modelled.add(0);
    const { length } = modelled.queue.flows;
    for (let i = 0; i < 10_000; i++) {
      modelled.add(0);
      modelled.queue.dropFirst(1);
      modelled.list.shift();
    }
    modelled.check();
    expect(modelled.queue.flows.length).toBeLessThanOrEqual(2 * length);
  });

  test("whose descriptors are closed here and there keeps the others in order", () => {
    const modelled = new Modelled();
    for (let i = 0; i < 100; i++) modelled.add(i);
    modelled.stamp(0, 5);
    modelled.queue.dropFirst(3);
    modelled.list.splice(0, 3);
    modelled.close((position) => position % 3 === 0);
    modelled.check();
    modelled.close(() => true);
    modelled.check();
    expect(modelled.queue.size).toBe(0);
  });

  test("passes the first of it on to another, behind what is there, with the time since when they wait", () => {
    const [from, to] = [new Modelled(), new Modelled()];
    for (let i = 0; i < 5; i++) from.add(i);
    from.stamp(0, 10);
    to.add(9);
    to.stamp(0, 20);
    from.queue.moveTo(to.queue, 3);
    to.list.push(...from.list.splice(0, 3));
    from.check();
    to.check();
    expect([0, 1, 2, 3].map((position) => to.queue.since(position))).toEqual([20, 10, 10, 10]);
  });
});

type Step =
  | { readonly kind: "add" | "first" | "last" | "move"; readonly count: number }
  | { readonly kind: "stamp"; readonly count: number; readonly now: number }
  | { readonly kind: "close"; readonly count: number };

test("whatever is done to it, a queue is what a plain list would be", () => {
  const count = fc.nat(90);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("add" as const), count }) },
    fc.record({ kind: fc.constantFrom("first", "last", "move"), count }),
    fc.record({ kind: fc.constant("stamp" as const), count, now: fc.nat(1000) }),
    fc.record({ kind: fc.constant("close" as const), count: fc.integer({ min: 1, max: 9 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const [modelled, other] = [new Modelled(), new Modelled()];
      for (const step of steps) {
        const few = Math.min(step.count, modelled.list.length);
        switch (step.kind) {
          case "add":
            for (let i = 0; i < step.count; i++) modelled.add(i);
            break;
          case "first":
            modelled.queue.dropFirst(few);
            modelled.list.splice(0, few);
            break;
          case "last":
            for (let i = 0; i < few; i++) {
              modelled.queue.dropLast();
              modelled.list.pop();
            }
            break;
          case "move":
            modelled.queue.moveTo(other.queue, few);
            other.list.push(...modelled.list.splice(0, few));
            break;
          case "stamp":
            modelled.stamp(few, step.now);
            break;
          case "close":
            modelled.close((position) => position % step.count === 0);
            break;
        }
        modelled.check();
        other.check();
      }
    }),
    { numRuns: 60 },
  );
});
