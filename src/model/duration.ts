/** Lengths of time, as people write them. */

const UNITS: Readonly<Record<string, number>> = { "": 1000, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a number of seconds, or of one with a unit: `500ms`, `10s`, `2m`, `1h`. `undefined`: neither. */
export function durationMs(text: string): number | undefined {
  const found = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(text);
  return found ? Number(found[1]) * UNITS[found[2]!]! : undefined;
}
