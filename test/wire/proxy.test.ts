/** PROXY protocol headers: the specification's own examples, and what holds for every header and every garbage. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Address, formatPlain, parseAddress } from "../../src/model/address.ts";
import {
  crc32c,
  type Decoded,
  decodeProxy,
  encodeProxy,
  PROXY_HEADER_MAX,
  type ProxyHeader,
} from "../../src/wire/proxy.ts";

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

function header(decoded: Decoded): ProxyHeader {
  if (decoded.kind !== "header") throw new Error(JSON.stringify(decoded));
  return decoded.header;
}

function decodeText(text: string): Decoded {
  return decodeProxy(Buffer.from(text, "latin1"));
}

function described(decoded: Decoded): string {
  const { ends, length } = header(decoded);
  if (!ends) return `${length}: unknown`;
  return `${length}: ${formatPlain(ends.remote)} ${ends.remotePort} ${formatPlain(ends.local)} ${ends.localPort}`;
}

const anyAddress: fc.Arbitrary<Address> = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map((four) => {
    return Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...four]);
  }),
);
const port = fc.nat(0xffff);
const anyEnds = fc.record({ local: anyAddress, localPort: port, remote: anyAddress, remotePort: port });

describe("version 1", () => {
  test("the examples of the specification", () => {
    expect(described(decodeText("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\nx"))).toBe(
      "56: 255.255.255.255 65535 255.255.255.255 65535",
    );
    const six = "ffff:f...f:ffff".replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff");
    expect(described(decodeText(`PROXY TCP6 ${six} ${six} 65535 65535\r\n`))).toBe(
      `104: ${six} 65535 ${six} 65535`,
    );
    expect(described(decodeText("PROXY UNKNOWN\r\n"))).toBe("15: unknown");
    const longest = `PROXY UNKNOWN ${six} ${six} 65535 65535\r\n`;
    expect(longest).toHaveLength(107);
    expect(described(decodeText(longest))).toBe("107: unknown");
    expect(described(decodeText("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n"))).toBe(
      "47: 192.168.0.1 56324 192.168.0.11 443",
    );
  });

  test("IPv4 is written as TCP4, a mixture as TCP6 without dots, no addresses as UNKNOWN", () => {
    const ends = { local: parseAddress("192.0.2.1")!, localPort: 80, remotePort: 4000 };
    const four = encodeProxy(1, { ...ends, remote: parseAddress("198.51.100.7")! });
    expect(Buffer.from(four).toString()).toBe("PROXY TCP4 198.51.100.7 192.0.2.1 4000 80\r\n");
    const mixed = encodeProxy(1, { ...ends, remote: parseAddress("2001:db8::7")! });
    expect(Buffer.from(mixed).toString()).toBe("PROXY TCP6 2001:db8::7 ::ffff:c000:201 4000 80\r\n");
    expect(Buffer.from(encodeProxy(1, undefined)).toString()).toBe("PROXY UNKNOWN\r\n");
  });

  test.each([
    "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
    "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    "PROXY TCP4 ::1 ::1 1 2\r\n",
    "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "PROXY \r\n",
    `PROXY UNKNOWN ${"x".repeat(200)}\r\n`,
    `PROXY ${"x".repeat(101)}`,
  ])("%j is bad", (text) => {
    expect(decodeText(text).kind).toBe("bad");
  });

  test("a line feed alone does not end it", () => {
    expect(decodeText("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n").kind).toBe("partial");
  });
});

describe("version 2", () => {
  test("the layout of the specification", () => {
    const ends = { local: parseAddress("192.0.2.1")!, localPort: 443, remotePort: 0x1234 };
    const four = encodeProxy(2, { ...ends, remote: parseAddress("198.51.100.7")! });
    expect([...four]).toEqual([
      ...SIGNATURE,
      ...[0x21, 0x11, 0, 12],
      ...[198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x34, 0x01, 0xbb],
    ]);
    const six = encodeProxy(2, { ...ends, remote: parseAddress("2001:db8::7")! });
    expect([...six.subarray(12, 16)]).toEqual([0x21, 0x21, 0, 36]);
    expect(six).toHaveLength(52);
    expect([...encodeProxy(2, undefined)]).toEqual([...SIGNATURE, 0x21, 0x00, 0, 0]);
  });

  test("a unique id and a namespace are records after the addresses", () => {
    const encoded = encodeProxy(2, undefined, { uniqueId: Buffer.from("id-1"), netns: "blue" });
    expect([...encoded.subarray(14)]).toEqual([
      ...[0, 14],
      ...[0x05, 0, 4, ...Buffer.from("id-1")],
      ...[0x30, 0, 4, ...Buffer.from("blue")],
    ]);
    expect(header(decodeProxy(encoded)).netns).toBe("blue");
  });

  test("LOCAL, an unspecified family, and Unix addresses leave the real addresses in force", () => {
    const unix = new Array(216).fill(0x61);
    expect(described(decodeProxy(Uint8Array.from([...SIGNATURE, 0x20, 0x11, 0, 2, 9, 9])))).toBe(
      "18: unknown",
    );
    expect(described(decodeProxy(Uint8Array.from([...SIGNATURE, 0x21, 0, 0, 0])))).toBe("16: unknown");
    expect(described(decodeProxy(Uint8Array.from([...SIGNATURE, 0x21, 0x31, 0, 216, ...unix])))).toBe(
      "232: unknown",
    );
  });

  test.each([
    ["version 1", [0x11, 0x11, 0, 12]],
    ["command 2", [0x22, 0x11, 0, 12]],
    ["family 0x41", [0x21, 0x41, 0, 12]],
    ["11 bytes are too few for its addresses", [0x21, 0x11, 0, 11]],
    [`${PROXY_HEADER_MAX + 1} bytes, more than ${PROXY_HEADER_MAX}`, [0x21, 0x11, 0x0f, 0xf1]],
    ["a record goes beyond the end", [0x21, 0x00, 0, 4, 0x05, 0, 2, 1]],
    ["a record goes beyond the end", [0x21, 0x00, 0, 2, 0x05, 0]],
    ["the checksum is wrong", [0x21, 0x00, 0, 7, 0x03, 0, 4, 1, 2, 3, 4]],
  ] as const)("%s is bad", (what, rest) => {
    const bytes = Uint8Array.from([...SIGNATURE, ...rest, ...new Array(12).fill(0)]);
    expect(decodeProxy(bytes)).toEqual({ kind: "bad", what: `version 2: ${what}` });
  });

  test("a right checksum is accepted (RFC 3720, B.4)", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    const bytes = Uint8Array.from([...SIGNATURE, 0x21, 0x00, 0, 7, 0x03, 0, 4, 0, 0, 0, 0]);
    new DataView(bytes.buffer).setUint32(19, crc32c(bytes));
    expect(decodeProxy(bytes).kind).toBe("header");
  });
});

describe("whatever comes", () => {
  test("what is encoded is decoded again, whatever follows it, and nothing shorter is", () => {
    const extras = fc.record(
      { uniqueId: fc.uint8Array({ maxLength: 128 }), netns: fc.stringMatching(/^[a-z0-9]{1,20}$/) },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.constantFrom(1, 2), anyEnds, extras, fc.uint8Array(), (version, ends, more, after) => {
        const encoded = encodeProxy(version, ends, more);
        const decoded = header(decodeProxy(Uint8Array.from([...encoded, ...after])));
        expect(decoded).toEqual({
          version,
          length: encoded.length,
          ends,
          ...(version === 2 && more),
        } as ProxyHeader);
        for (let cut = 0; cut < encoded.length; cut++) {
          if (decodeProxy(encoded.subarray(0, cut)).kind !== "partial") throw new Error(`complete at ${cut}`);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("no bytes make it throw, and it never claims more than there is", () => {
    const start = fc.constantFrom([], SIGNATURE, [...SIGNATURE, 0x21], [...Buffer.from("PROXY ")]);
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 300 }), (first, rest) => {
        const bytes = Uint8Array.from([...first, ...rest]);
        const decoded = decodeProxy(bytes);
        if (decoded.kind === "header" && decoded.header.length > bytes.length) throw new Error("too long");
      }),
      { numRuns: 5000 },
    );
  });

  test("a client that speaks another protocol is told apart by its first byte that differs", () => {
    expect(decodeText("").kind).toBe("partial");
    expect(decodeText("P").kind).toBe("partial");
    expect(decodeText("PO").kind).toBe("none");
    expect(decodeText("\r\n\r\n").kind).toBe("partial");
    expect(decodeText("GET / HTTP/1.1\r\n").kind).toBe("none");
  });
});
