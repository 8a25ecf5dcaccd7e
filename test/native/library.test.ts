/** Text on its way to C. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { cString, foreignText } from "../../src/native/library.ts";

test("a C string is UTF-8 with its NUL", () => {
  expect(cString("aé€\u{1f600}")).toEqual(Buffer.from("aé€\u{1f600}\0"));
  expect(cString("")).toEqual(Buffer.from("\0"));
  expect(() => cString("a\0b")).toThrow('a NUL character in "a\\u0000b"');
});

test("any bytes come out of a C string as they went into the text, whatever text is around them", () => {
  const bytes = fc
    .uint8Array({ maxLength: 20 })
    .map((array) => Buffer.from(array.filter((byte) => byte !== 0)));
  const text = fc.string({ unit: "grapheme", maxLength: 5 }).filter((string) => !string.includes("\0"));
  fc.assert(
    fc.property(text, bytes, text, (before, between, after) => {
      const expected = Buffer.concat([Buffer.from(before), between, Buffer.from(`${after}\0`)]);
      expect(cString(before + foreignText(between) + after)).toEqual(expected);
    }),
    { seed: 1, numRuns: 2000 },
  );
});
