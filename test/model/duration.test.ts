import { expect, test } from "bun:test";
import { durationMs } from "../../src/model/duration.ts";

test.each([
  ["0", 0],
  ["10", 10_000],
  ["1.5", 1500],
  ["500ms", 500],
  ["0.5ms", 0.5],
  ["10s", 10_000],
  ["2m", 120_000],
  ["1h", 3_600_000],
])("%s is %d milliseconds", (text, ms) => {
  expect(durationMs(text)).toBe(ms);
});

test.each(["", "s", "-1", "+1", "1 s", "1d", "1e3", ".5", "5.", "10S", "1m30s"])(
  "%p is no duration",
  (text) => {
    expect(durationMs(text)).toBeUndefined();
  },
);
