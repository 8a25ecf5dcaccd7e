import { describe, expect, test } from "bun:test";
import { formatPlain, parseAddress } from "../../src/model/address.ts";
import {
  formatUpstream,
  interleave,
  type Nat64,
  type Upstream,
  upstreamOf,
} from "../../src/model/upstream.ts";
import { flow } from "../routing/drafts.ts";

const address = (text: string) => parseAddress(text)!;
const inet = (text: string, port: number): Upstream => ({
  kind: "inet",
  address: address(text),
  scope: 0,
  port,
});

function written(upstream: Upstream, local: string, nat64?: Nat64): string | undefined {
  const found = upstreamOf(upstream, flow({ local, localPort: 8080 }), nat64);
  return found && formatUpstream(found);
}

describe("without NAT64", () => {
  test("a target is itself; port 0 is the port that the client connected to", () => {
    expect(written(inet("2001:db8::1", 80), "::1")).toBe("[2001:db8::1]:80");
    expect(written(inet("2001:db8::1", 0), "::1")).toBe("[2001:db8::1]:8080");
    expect(written({ kind: "name", name: "a.example", port: 0 }, "::1")).toBe("a.example:8080");
    expect(written({ kind: "unix", path: "/run/a" }, "::1")).toBe("unix:/run/a");
  });
});

describe("with NAT64", () => {
  const narrow: Nat64 = { prefix: address("64:ff9b::"), length: 96 };
  const wide: Nat64 = { prefix: address("2001:db8:64::"), length: 64 };

  test("the last 32 bits, or 64, are carried over", () => {
    expect(written(inet("::ffff:0.0.0.0", 0), "64:ff9b::c000:201", narrow)).toBe("[::ffff:192.0.2.1]:8080");
    expect(written(inet("2001:db8:1:2::", 80), "2001:db8:64::a:b:c:d", wide)).toBe(
      "[2001:db8:1:2:a:b:c:d]:80",
    );
  });

  test("a path gets the last 32 bits as hexadecimal digits", () => {
    expect(written({ kind: "unix", path: "/run/a" }, "64:ff9b::c000:201", narrow)).toBe(
      "unix:/run/a-c0000201",
    );
  });

  test("a connection to an address outside the prefix has no target", () => {
    expect(written(inet("::1", 80), "64:ff9b:0:0:0:1::1", narrow)).toBeUndefined();
    expect(written({ kind: "unix", path: "/run/a" }, "2001:db8:65::1", wide)).toBeUndefined();
  });

  test("the target itself stays as it was", () => {
    const upstream = inet("::", 0);
    written(upstream, "64:ff9b::1", narrow);
    expect(formatUpstream(upstream)).toBe("[::]:0");
  });
});

test.each([
  [[], []],
  [
    ["2001:db8::1", "2001:db8::2"],
    ["2001:db8::1", "2001:db8::2"],
  ],
  [
    ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"],
    ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"],
  ],
  [
    ["192.0.2.1", "2001:db8::1", "2001:db8::2"],
    ["192.0.2.1", "2001:db8::1", "2001:db8::2"],
  ],
] as [string[], string[]][])("the families of %p take turns", (resolved, order) => {
  expect(interleave(resolved.map(address)).map(formatPlain)).toEqual(order);
});
