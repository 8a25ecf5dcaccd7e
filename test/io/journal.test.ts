import { describe, expect, test } from "bun:test";
import { type Entry, Journal } from "../../src/io/journal.ts";
import { FLOW_WORDS } from "../../src/routing/record.ts";

/** A journal, what it has sent, and each time it sent something. */
function journal() {
  const sent: Entry[][] = [];
  return { journal: new Journal((entries) => void sent.push([...entries])), sent };
}

const FLOWS = Uint32Array.from({ length: 4 * FLOW_WORDS }, (_, word) => word);

/** Lines, and connections that are summed up. */
function counts(entries: readonly Entry[]) {
  const lines = entries.filter(({ flow }) => flow).length;
  return { lines, summed: entries.reduce((sum, { flow, count }) => sum + (flow ? 0 : count), 0) };
}

describe("a journal", () => {
  test("sends what was noted at the flush, once, with a record of its own", () => {
    const { journal: notes, sent } = journal();
    const flows = FLOWS.slice();
    notes.gaveUp("timeout", "web", flows, 2 * FLOW_WORDS, 3);
    expect(sent).toEqual([]);
    notes.flush();
    flows.fill(0); // the next batch
    const flow = FLOWS.slice(2 * FLOW_WORDS, 3 * FLOW_WORDS);
    expect(sent).toEqual([[{ reason: "timeout", target: "web", flow, listener: 3, count: 1 }]]);
    notes.flush();
    expect(sent).toHaveLength(1);
  });

  test("writes twenty lines a second for each reason and target, and says how many more there were", () => {
    const { journal: notes, sent } = journal();
    for (let i = 0; i < 100; i++) {
      notes.gaveUp("timeout", "web", FLOWS, 0, 0);
      if (i < 30) notes.gaveUp("queue-full", "web", FLOWS, 0, 0);
      if (i < 5) notes.gaveUp("timeout", "mail", FLOWS, 0, 0);
    }
    notes.flush();
    const of = (reason: string, target: string) =>
      counts(sent.flat().filter((entry) => entry.reason === reason && entry.target === target));
    expect(of("timeout", "web")).toEqual({ lines: 20, summed: 0 });
    notes.newSecond();
    expect(of("timeout", "web")).toEqual({ lines: 20, summed: 80 });
    expect(of("queue-full", "web")).toEqual({ lines: 20, summed: 10 });
    expect(of("timeout", "mail")).toEqual({ lines: 5, summed: 0 });
  });

  test("begins anew every second", () => {
    const { journal: notes, sent } = journal();
    for (let second = 0; second < 3; second++) {
      for (let i = 0; i < 25; i++) notes.gaveUp("denied", "", FLOWS, 0, 0);
      notes.newSecond();
    }
    expect(counts(sent.flat())).toEqual({ lines: 60, summed: 15 });
    notes.newSecond();
    expect(counts(sent.flat())).toEqual({ lines: 60, summed: 15 });
  });

  test("leaves no connection out", () => {
    const { journal: notes, sent } = journal();
    for (let i = 0; i < 1234; i++) {
      notes.gaveUp(i % 2 ? "timeout" : "client-gone", `target-${i % 3}`, FLOWS, 0, 0);
      if (i % 100 === 0) notes.flush();
      if (i % 400 === 0) notes.newSecond();
    }
    notes.newSecond();
    expect(sent.flat().reduce((sum, { count }) => sum + count, 0)).toBe(1234);
  });
});
