/** The decisions about limits, with a clock of the test's own, against models that remember everything. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseAddress } from "../../src/model/address.ts";
import { RateWindow, SourceCounts } from "../../src/programs/limits.ts";

const address = (text: string) => parseAddress(text)!;

describe("at most N in any window", () => {
  const steps = fc.array(fc.nat({ max: 150 }), { maxLength: 60 });

  test("never more, wherever the window begins, and never fewer than it could be", () => {
    const property = fc.property(fc.integer({ min: 1, max: 5 }), steps, (most, steps) => {
      const rate = new RateWindow({ most, windowMs: 100 });
      const noted: number[] = [];
      let now = 0;
      for (const step of steps) {
        now += step;
        const recent = noted.filter((time) => now - time < 100).length;
        expect(rate.room(now)).toBe(most - recent);
        if (recent < most) {
          rate.note(now);
          noted.push(now);
        }
      }
      for (const start of noted) {
        expect(noted.filter((time) => time >= start && time < start + 100).length).toBeLessThanOrEqual(most);
      }
    });
    fc.assert(property);
  });

  test("says exactly how long there is no room", () => {
    const property = fc.property(fc.integer({ min: 1, max: 5 }), steps, (most, steps) => {
      const rate = new RateWindow({ most, windowMs: 100 });
      let now = 0;
      for (const step of steps) {
        now += step;
        const delay = rate.delay(now);
        if (delay > 0) {
          expect(rate.room(now + delay - 1)).toBe(0);
          expect(rate.room(now + delay)).toBeGreaterThan(0);
          now += delay;
        }
        rate.note(now);
      }
    });
    fc.assert(property);
  });
});

describe("at most N from one source", () => {
  test("an IPv6 source is its prefix, an IPv4 source its address", () => {
    const counts = new SourceCounts({ most: 1, prefixLength: 64 });
    const admitted = (text: string) => counts.admit(address(text)) !== undefined;
    expect(["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "fe80::1"].map(admitted)).toEqual([
      true,
      false,
      true,
      true,
    ]);
    expect(["192.0.2.1", "192.0.2.2", "192.0.2.1"].map(admitted)).toEqual([true, true, false]);
  });

  test("what was given back can be had again, and nothing of it is kept", () => {
    const source = fc.constantFrom("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2");
    const step = fc.tuple(source, fc.boolean());
    const property = fc.property(fc.integer({ min: 1, max: 3 }), fc.array(step), (most, steps) => {
      const counts = new SourceCounts({ most, prefixLength: 64 });
      const held = new Map<string, string[]>();
      for (const [source, comes] of steps) {
        const name = source.replace(/::[12]$/, "::");
        const keys = held.get(name) ?? [];
        held.set(name, keys);
        if (comes) {
          const key = counts.admit(address(source));
          expect(key !== undefined).toBe(keys.length < most);
          if (key !== undefined) keys.push(key);
        } else {
          const key = keys.pop();
          if (key !== undefined) counts.release(key);
        }
      }
    });
    fc.assert(property);
  });
});
