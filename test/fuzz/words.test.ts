/** The words of configurations and command lines: none is too strange, and what is printed is read again. */
import { describe, expect } from "bun:test";
import fc from "fast-check";
import { parseDuration } from "../../src/config/duration.ts";
import { Fault } from "../../src/config/fault.ts";
import { pathFault, templateFault } from "../../src/config/path.ts";
import {
  parseInlet,
  parseNat64,
  parsePerSource,
  parseScope,
  parseSource,
  parseUpstream,
} from "../../src/config/relay-words.ts";
import { parseNumber, parsePattern, parsePorts, parseScoped } from "../../src/config/words.ts";
import { interfaceIndex } from "../../src/io/connect.ts";
import {
  type Address,
  formatAddress,
  formatPattern,
  formatPlain,
  masked,
  parseAddress,
  prefixMask,
} from "../../src/model/address.ts";
import { durationMs } from "../../src/model/duration.ts";
import { fillBraces, fillGroups, hasBraces, longestPath } from "../../src/model/target.ts";
import { formatUpstream, lacksScope, type Upstream } from "../../src/model/upstream.ts";
import { holds, mutatedText } from "./kit.ts";

const READERS: Readonly<Record<string, (text: string) => unknown>> = {
  address: parseAddress,
  pattern: (text) => parsePattern("local", text),
  ports: (text) => parsePorts("port", text),
  number: (text) => parseNumber("descriptor", text, 0, 0x7fffffff),
  duration: (text) => parseDuration("wait", text),
  upstream: (text) => parseUpstream(text, interfaceIndex),
  inlet: parseInlet,
  scope: (text) => parseScope(text, interfaceIndex),
  scoped: (text) => parseScoped("address", text, (scope) => parseScope(scope, interfaceIndex)),
  nat64: parseNat64,
  source: parseSource,
  "per-source": parsePerSource,
  path: (text) => pathFault(text),
  template: (text) => templateFault(text),
};

const EXAMPLES = [
  "2001:db8::1",
  "::ffff:192.0.2.1",
  "192.0.2.1",
  "::/0",
  "10.0.0.0/255.0.0.0",
  "::5/::ffff",
  "80",
]
  .concat([
    "8000-8010",
    "500ms",
    "1.5s",
    "1h",
    "[::1]:80",
    "[fe80::1%lo]:80",
    "fe80::1%lo",
    "web.example:80",
    "unix:/run/a",
  ])
  .concat([
    "unix:@a",
    "slot:3:/run/r",
    "fd:3",
    "lo",
    "64:ff9b::/96",
    "client",
    "20/56",
    "/run/{port}/{group7}",
  ]);
const text = mutatedText(EXAMPLES, [
  "::",
  ".",
  "/",
  "%",
  "-",
  "[",
  "]",
  "unix:",
  "{local}",
  "ms",
  "@",
  "ffff",
]);

const sixteen = fc.uint8Array({ minLength: 16, maxLength: 16 });
/** With runs of zeros, and mapped ones. */
const address: fc.Arbitrary<Address> = fc.oneof(
  sixteen,
  fc
    .tuple(sixteen, fc.nat(16), fc.nat(16))
    .map(([bytes, a, b]) => bytes.fill(0, Math.min(a, b), Math.max(a, b))),
  sixteen.map((bytes) => {
    bytes.fill(0, 0, 10).fill(0xff, 10, 12);
    return bytes;
  }),
);
const port = fc.nat(0xffff);

describe("any text", () => {
  for (const [name, read] of Object.entries(READERS)) {
    holds(
      `is, as ${name}, read or refused in one line`,
      400,
      fc.property(text, (text) => {
        const result = read(text);
        if (
          result instanceof Fault &&
          (!result.what || /[\p{Cc}\u2028\u2029]/u.test(result.what + result.expected))
        )
          throw new Error(JSON.stringify(result));
      }),
    );
  }
});

describe("what is printed is read again", () => {
  holds(
    "an address, in both forms",
    2000,
    fc.property(address, (address) => {
      expect(parseAddress(formatAddress(address))).toEqual(address);
      expect(parseAddress(formatPlain(address))).toEqual(address);
    }),
  );
  holds(
    "a pattern with any mask",
    2000,
    fc.property(
      address,
      fc.oneof(
        fc.integer({ min: 0, max: 128 }).map((length) => prefixMask(length)),
        address,
      ),
      (bits, mask) => {
        const pattern = { address: masked(bits, mask), mask };
        expect(parsePattern("local", formatPattern(pattern))).toEqual(pattern);
      },
    ),
  );
  holds(
    "an address that is read, whichever way it was written",
    2000,
    fc.property(text, (text) => {
      const address = parseAddress(text);
      if (address) expect(parseAddress(formatAddress(address))).toEqual(address);
    }),
  );
  holds(
    "a target of a relay",
    1000,
    fc.property(address, port, (address, port) => {
      const scope = lacksScope(address, 0) ? 1 : 0;
      const upstream: Upstream = { kind: "inet", address, scope, port };
      expect(parseUpstream(formatUpstream(upstream), interfaceIndex)).toEqual(upstream);
    }),
  );
  holds(
    "a number of milliseconds",
    1000,
    fc.property(fc.nat(86_400_000), (ms) => {
      expect(durationMs(`${ms}ms`)).toBe(ms);
      expect(parseDuration("wait", `${ms}ms`)).toBe(ms);
      expect(parseDuration("wait", ms / 1000)).toBe(ms);
    }),
  );
});

describe("a path with places to fill in", () => {
  const piece = fc.constantFrom(
    "{port}",
    "{local}",
    "{group0}",
    "{group7}",
    "{",
    "}",
    "/a",
    "#//0_",
    "#//P_",
    "é",
  );
  const path = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(""));
  const flow = fc.record({
    local: address,
    localPort: port,
    remote: address,
    remotePort: port,
    listener: fc.constant(0),
  });
  holds(
    "is never longer than was said",
    1000,
    fc.property(path, flow, (path, flow) => {
      const filled = fillBraces(path, flow);
      expect(Buffer.byteLength(filled)).toBeLessThanOrEqual(longestPath(path));
      expect(hasBraces(filled)).toBe(false);
      expect(Buffer.byteLength(fillGroups(path, flow))).toBe(Buffer.byteLength(path));
    }),
  );
});
