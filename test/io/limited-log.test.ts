/** Lines that others cause are bounded in number, and none goes uncounted. */
import { expect, test } from "bun:test";
import { LimitedLog } from "../../src/io/limited-log.ts";

function logOf() {
  const lines: string[] = [];
  const timers: (() => void)[] = [];
  const log = new LimitedLog(
    (line) => lines.push(line),
    (_, run) => timers.push(run),
  );
  return { log, lines, timers };
}

test("twenty lines of a kind go out in a second, and one that counts the others", () => {
  const { log, lines, timers } = logOf();
  for (let i = 0; i < 1000; i++) log.say("dropped", `dropped number ${i}`);
  log.say("another");
  expect(lines.length).toBe(21);
  expect(timers.length).toBe(1);
  timers.pop()!();
  expect(lines.slice(19)).toEqual(["dropped number 19", "another", "dropped (980 times more)"]);
  log.say("dropped");
  expect([lines.length, timers.length]).toEqual([23, 1]);
});

test("so are kinds that never end", () => {
  const { log, lines, timers } = logOf();
  for (let i = 0; i < 100_000; i++) log.say(`kind ${i}`);
  timers.pop()!();
  expect(lines.length).toBe(1000 + 20 + 1);
  expect(lines.at(-1)).toBe("other lines (98980 times more)");
});
