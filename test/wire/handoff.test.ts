import { describe, expect, test } from "bun:test";
import { DATAGRAM_PAYLOAD, parseStrictMode, SLOT_PAYLOAD } from "../../src/wire/handoff.ts";

describe("the payload beside a socket", () => {
  test("is a single 00 to a path, 03 00 00 00 to a slot", () => {
    expect(Buffer.from(DATAGRAM_PAYLOAD).toString("hex")).toBe("00");
    expect(Buffer.from(SLOT_PAYLOAD).toString("hex")).toBe("03000000");
  });
});

describe("SKBOX_STRICT_STREAM_MODE", () => {
  test("is 2 unless it says something else", () => {
    expect(parseStrictMode(undefined)).toBe(2);
    expect(["0", "1", "2"].map(parseStrictMode)).toEqual([0, 1, 2]);
  });

  test.each(["", "3", "-1", "00", "2 ", "yes"])("cannot be %p", (value) => {
    expect(parseStrictMode(value)).toBeUndefined();
  });
});
