import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeRegistration,
  encodeRegistration,
  isRegistered,
  REGISTERED,
} from "../../src/wire/registration.ts";

const slots = fc.oneof(fc.constantFrom(0, 1, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff), fc.maxSafeNat());
const slot = slots.map((number) => number % 2 ** 32);

describe("a registration", () => {
  test("is 01 00 0000 and the slot in network order", () => {
    fc.assert(
      fc.property(slot, (slot) => {
        const wanted = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
        wanted.writeUInt32BE(slot, 4);
        expect(Buffer.from(encodeRegistration(slot))).toEqual(wanted);
        expect(decodeRegistration(wanted)).toBe(slot);
      }),
    );
  });

  test("is read from wherever it lies in a buffer", () => {
    const buffer = Buffer.from("ffffff0100000000000102ffff", "hex");
    expect(decodeRegistration(buffer.subarray(3, 11))).toBe(0x102);
  });

  test("with another length, type, flag or reserved byte is none", () => {
    const good = encodeRegistration(5);
    expect(decodeRegistration(good.subarray(0, 7))).toBeUndefined();
    expect(decodeRegistration(Uint8Array.of(...good, 0))).toBeUndefined();
    expect(decodeRegistration(new Uint8Array())).toBeUndefined();
    for (let at = 0; at < 4; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const bad = good.slice();
        bad[at]! ^= 1 << bit;
        expect(decodeRegistration(bad)).toBeUndefined();
      }
    }
  });
});

describe("the server's answer", () => {
  test("is 80 00 00 00", () => {
    expect(Buffer.from(REGISTERED).toString("hex")).toBe("80000000");
    expect(isRegistered(Uint8Array.of(0x80, 0, 0, 0))).toBe(true);
  });

  test.each([[[]], [[0x80]], [[0x80, 0, 0, 1]], [[0, 0, 0, 0]], [[0x80, 0, 0, 0, 0]]])(
    "is not %p",
    (bytes) => {
      expect(isRegistered(Uint8Array.from(bytes as number[]))).toBe(false);
    },
  );
});
