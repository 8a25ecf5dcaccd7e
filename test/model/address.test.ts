import { describe, expect, test } from "bun:test";
import { isIP } from "node:net";
import fc from "fast-check";
import {
  type Address,
  formatAddress,
  formatPattern,
  formatPlain,
  groupsOf,
  hasHostBits,
  isMapped,
  masked,
  matches,
  parseAddress,
  prefixLength,
  prefixMask,
} from "../../src/model/address.ts";

/** Zeros are frequent, so that runs of them have every length and place. */
const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
const groups = fc.array(group, { minLength: 8, maxLength: 8 });
const bytes: fc.Arbitrary<Address> = groups.map((list) =>
  Uint8Array.from(list.flatMap((g) => [g >> 8, g & 255])),
);
const length = fc.integer({ min: 0, max: 128 });

/** As the WHATWG URL standard writes it, which is RFC 5952 except for dots. */
function canonical(text: string): string {
  return new URL(`http://[${text}]/`).hostname.slice(1, -1);
}

function number(address: Address): bigint {
  return BigInt(`0x${Buffer.from(address).toString("hex")}`);
}

/** All ways in which people write the same eight groups. */
const spelling = fc
  .tuple(groups, fc.boolean(), fc.boolean(), fc.boolean(), fc.nat())
  .map(([list, upper, padded, dotted, at]) => {
    const words = list.map((g) => (padded ? g.toString(16).padStart(4, "0") : g.toString(16)));
    const [a, b] = list.slice(6) as [number, number];
    if (dotted) words.splice(6, 2, [a >> 8, a & 255, b >> 8, b & 255].join("."));
    const zeros = words.flatMap((word, i) => (/^0+$/.test(word) ? [i] : []));
    const start = zeros[at % Math.max(1, zeros.length)];
    let text = words.join(":");
    if (start !== undefined) {
      let end = start;
      while (/^0+$/.test(words[end] ?? "")) end++;
      // A single group of zeros may be written as `::` too, though nobody should.
      text = `${words.slice(0, start).join(":")}::${words.slice(end).join(":")}`;
    }
    return { list, text: upper ? text.toUpperCase() : text };
  });

describe("parseAddress", () => {
  test("reads every spelling of an address as the same bytes", () => {
    fc.assert(
      fc.property(spelling, ({ list, text }) => {
        expect(groupsOf(parseAddress(text)!)).toEqual(list);
        // WebKit's URL parser refuses dots behind a `::`.
        const plain = list.map((g) => g.toString(16)).join(":");
        if (!text.includes(".")) expect(canonical(text)).toBe(canonical(plain));
      }),
      { numRuns: 2000 },
    );
  });

  test("takes exactly the texts that node:net calls addresses", () => {
    const piece = fc.constantFrom(
      "0",
      "1",
      "a",
      "ff",
      "ffff",
      "10000",
      ":",
      ":",
      "::",
      ".",
      "255",
      "256",
      "01",
      "g",
    );
    const text = fc.array(piece, { maxLength: 16 }).map((pieces) => pieces.join(""));
    fc.assert(
      fc.property(
        fc.oneof(
          text,
          spelling.map((written) => written.text),
        ),
        (written) => {
          expect(parseAddress(written) !== undefined).toBe(isIP(written) !== 0);
        },
      ),
      { numRuns: 5000 },
    );
  });

  test("an IPv4 address means its mapped form", () => {
    const mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];
    fc.assert(
      fc.property(fc.ipV4(), (text) => {
        expect([...parseAddress(text)!]).toEqual([...mapped, ...text.split(".").map(Number)]);
        expect(parseAddress(`::ffff:${text}`)).toEqual(parseAddress(text)!);
      }),
    );
  });

  test.each([
    "",
    ":",
    ":::",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.256",
    "::1%2",
    " ::1",
    "::1/64",
    "1::2::3",
  ])("refuses %p", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });
});

describe("formatAddress", () => {
  test("writes what a URL would, and what reads back as the same address", () => {
    fc.assert(
      fc.property(bytes, (address) => {
        const text = formatAddress(address);
        expect(parseAddress(text)).toEqual(address);
        if (!isMapped(address)) expect(text).toBe(canonical(text));
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["::ffff:c000:201", "::ffff:192.0.2.1"],
  ])("writes %s as %s", (written, canonicalText) => {
    expect(formatAddress(parseAddress(written)!)).toBe(canonicalText);
  });

  test("formatPlain writes a mapped address as IPv4, any other as it is", () => {
    expect(formatPlain(parseAddress("::ffff:192.0.2.1")!)).toBe("192.0.2.1");
    expect(formatPlain(parseAddress("::1")!)).toBe("::1");
  });
});

describe("masks", () => {
  const all = (1n << 128n) - 1n;

  test("a prefix mask is that many ones, then zeros", () => {
    for (let bits = 0; bits <= 128; bits++) {
      expect(number(prefixMask(bits))).toBe(all ^ (all >> BigInt(bits)));
      expect(prefixLength(prefixMask(bits))).toBe(bits);
    }
  });

  test("a mask with a gap has no length", () => {
    fc.assert(
      fc.property(bytes, (mask) => {
        const text = number(mask).toString(2).padStart(128, "0");
        expect(prefixLength(mask)).toBe(/^1*0*$/.test(text) ? text.indexOf("0") : undefined);
      }),
    );
    expect(prefixLength(parseAddress("::ffff:ffff:ffff:ffff")!)).toBeUndefined();
  });

  test("matching, clearing and finding host bits agree with arithmetic on 128-bit numbers", () => {
    const mask = fc.oneof(bytes, length.map(prefixMask));
    // Alike except in one bit or none, so that both answers are frequent.
    const pair = fc.tuple(bytes, fc.option(fc.integer({ min: 0, max: 127 }))).map(([a, flip]) => {
      const b = a.slice();
      if (flip !== null) b[flip >> 3]! ^= 0x80 >> (flip & 7);
      return [a, b] as const;
    });
    fc.assert(
      fc.property(pair, mask, ([address, other], mask) => {
        const [a, b, m] = [address, other, mask].map(number) as [bigint, bigint, bigint];
        expect(matches({ address, mask }, other)).toBe((a & m) === (b & m));
        expect(number(masked(address, mask))).toBe(a & m);
        expect(hasHostBits({ address, mask })).toBe((a & ~m & all) !== 0n);
      }),
    );
  });

  test.each([
    ["2001:db8::", prefixMask(32), "2001:db8::/32"],
    ["2001:db8::1", prefixMask(128), "2001:db8::1"],
    ["192.0.2.0", prefixMask(120), "192.0.2.0/24"],
    ["192.0.2.1", prefixMask(128), "192.0.2.1"],
    ["::ffff:0:0", prefixMask(95), "::ffff:0.0.0.0/95"],
    ["::5", parseAddress("::ffff:ffff:ffff:ffff")!, "::5/::ffff:ffff:ffff:ffff"],
  ])("the pattern of %s is written as by hand", (address, mask, text) => {
    expect(formatPattern({ address: parseAddress(address)!, mask })).toBe(text);
  });
});
