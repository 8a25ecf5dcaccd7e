/** The time in milliseconds, by a clock that all threads and processes of the machine share (CLOCK_MONOTONIC). */
import { native } from "../native/library.ts";

const origin = (() => {
  const microseconds = new BigUint64Array(1);
  native.sb_monotonic(microseconds);
  return Number(microseconds[0]) / 1000 - performance.now();
})();

/** Never 0, which may stand for no time. */
export function now(): number {
  return origin + performance.now();
}
