/** Lengths of time, as a number of seconds or a text with a unit. */
import * as v from "valibot";
import { durationMs } from "../model/duration.ts";
import { Fault, quoted } from "./fault.ts";
import { text } from "./schema-parts.ts";

export const DURATIONS = 'seconds, or "500ms", "10s", "2m", "1h"';
/** For editors. */
export const DURATION_PATTERN = "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)?$";
/** The longest time that can be asked for: a day. */
const DURATION_SECONDS_LAST = 86_400;

/** `ms` is what holds where nothing is written. */
export function durationSchema(description: string, ms: number) {
  const inSeconds = v.pipe(
    v.number(DURATIONS),
    v.minValue(0, DURATIONS),
    v.maxValue(DURATION_SECONDS_LAST, `0 to ${DURATION_SECONDS_LAST}`),
  );
  const withUnit = text(DURATIONS, { pattern: DURATION_PATTERN });
  return v.optional(
    v.pipe(v.union([inSeconds, withUnit], DURATIONS), v.metadata({ description, default: ms / 1000 })),
  );
}

/** Milliseconds. */
export function parseDuration(name: string, value: number | string): number | Fault {
  const exact = durationMs(String(value));
  if (exact === undefined) return new Fault(`${name} is ${quoted(String(value))}`, DURATIONS);
  const ms = Math.round(exact);
  return ms <= DURATION_SECONDS_LAST * 1000
    ? ms
    : new Fault(`${name} ${quoted(String(value))} is too long`, `at most ${DURATION_SECONDS_LAST} seconds`);
}
