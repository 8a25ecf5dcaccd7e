import { expect, test } from "bun:test";
import { DURATIONS, parseDuration } from "../../src/config/duration.ts";
import { Fault } from "../../src/config/fault.ts";

test.each([
  [0, 0],
  [1.5, 1500],
  [86_400, 86_400_000],
  ["10", 10_000],
  ["500ms", 500],
  ["0.4ms", 0],
  ["1.5s", 1500],
  ["2m", 120_000],
  ["24h", 86_400_000],
])("%p is %d milliseconds", (written, ms) => {
  expect(parseDuration("wait", written)).toBe(ms);
});

test.each(["", "1d", "-1", "1 s", "1e3", ".5"])("%p is no duration", (written) => {
  expect(parseDuration("wait", written)).toEqual(new Fault(`wait is ${JSON.stringify(written)}`, DURATIONS));
});

test.each(["86401", "25h", "1441m"])("%p is too long", (written) => {
  expect(parseDuration("wait", written)).toEqual(
    new Fault(`wait "${written}" is too long`, "at most 86400 seconds"),
  );
});
