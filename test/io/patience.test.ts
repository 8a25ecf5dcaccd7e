/** By what a thread is scheduled: its policy is what the kernel says it is (proc_pid_stat(5)). */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Patience } from "../../src/io/patience.ts";
import { Reactor } from "../../src/io/reactor.ts";
import { ROOT, run } from "../kit/running.ts";

/** The numbers of sched(7). */
const [OTHER, BATCH] = [0, 3];

test("a thread with many connections is patient when it is woken, and again as any other when they are few", () => {
  using reactor = new Reactor();
  const patience = new Patience(reactor);
  expect(policy()).toBe(OTHER);
  patience.took(999);
  reactor.turn();
  expect(policy()).toBe(OTHER);
  for (let i = 0; i < 10; i++) patience.took(100);
  reactor.turn();
  expect(policy()).toBe(BATCH);
  // As long as many come.
  patience.took(1000);
  reactor.turn();
  expect(policy()).toBe(BATCH);
  // Nobody calls any more.
  reactor.turn();
  expect(policy()).toBe(OTHER);
});

test("a policy that somebody has chosen stays", async () => {
  const script = `
const { Patience } = await import("${ROOT}/src/io/patience.ts");
const { Reactor } = await import("${ROOT}/src/io/reactor.ts");
const { readFileSync } = await import("node:fs");
const reactor = new Reactor();
const patience = new Patience(reactor);
patience.took(1000);
reactor.turn();
patience.took(1);
reactor.turn();
console.log(${policy}());
`;
  for (const [option, number] of [
    ["--batch", BATCH],
    ["--idle", 5],
  ] as const) {
    const command = ["chrt", option, "0", process.execPath, "-e", script];
    expect(await run(command)).toEqual({ code: 0, out: `${number}\n` });
  }
});

function policy(): number {
  const stat = readFileSync("/proc/thread-self/stat", "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[41 - 3]);
}
