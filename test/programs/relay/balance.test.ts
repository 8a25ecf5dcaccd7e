import { describe, expect, test } from "bun:test";
import { parseAddress } from "../../../src/model/address.ts";
import { Balancer, newTarget } from "../../../src/programs/relay/balance.ts";

const KEYS = ["a", "b", "c", "d", "e"];

/** The first choice for a client. */
function choice(remote: string, keys = KEYS): string {
  const balancer = new Balancer("source", keys.map(newTarget), 1000);
  return keys[balancer.order({ flow: { remote: parseAddress(remote)! } }, 0)[0]!]!;
}

describe("by source", () => {
  const clients = Array.from({ length: 200 }, (_, host) => `192.0.2.${host}`);

  test("a client goes where it went, whatever the order of the targets", () => {
    for (const client of clients) expect(choice(client, KEYS.toReversed())).toBe(choice(client));
  });

  test("a target less moves its own clients alone", () => {
    for (const client of clients)
      if (choice(client) !== "c") expect(choice(client, ["a", "b", "d", "e"])).toBe(choice(client));
  });

  test("all addresses of an IPv6 /64 are one client, and other prefixes are others", () => {
    expect(choice("2001:db8::1")).toBe(choice("2001:db8::ffff:1:2"));
    const prefixes = Array.from({ length: 50 }, (_, net) => choice(`2001:db8:0:${net.toString(16)}::1`));
    expect(new Set(prefixes).size).toBe(KEYS.length);
  });

  test("addresses of IPv4 are clients one by one", () => {
    expect(new Set(clients.map((client) => choice(client))).size).toBe(KEYS.length);
  });
});

describe("a target that could not be reached", () => {
  test("is tried last until its time is over, and is news once", () => {
    const balancer = new Balancer("round-robin", ["a", "b"].map(newTarget), 1000);
    const anybody = { flow: { remote: parseAddress("::1")! } };
    expect(balancer.failed(0, 0)).toBe(true);
    expect(balancer.failed(0, 0)).toBe(false);
    for (let i = 0; i < 4; i++) expect(balancer.order(anybody, 999)).toEqual([1, 0]);
    expect([balancer.order(anybody, 1000)[0], balancer.order(anybody, 1000)[0]].sort()).toEqual([0, 1]);
    expect(balancer.reached(0)).toBe(true);
    expect(balancer.reached(0)).toBe(false);
  });
});

test("the fewest connections come first; equal ones take turns", () => {
  const balancer = new Balancer("least-connections", ["a", "b", "c"].map(newTarget), 1000);
  const anybody = { flow: { remote: parseAddress("::1")! } };
  for (const index of [0, 0, 1]) balancer.reached(index);
  expect(balancer.order(anybody, 0)).toEqual([2, 1, 0]);
  balancer.reached(2);
  const first = [balancer.order(anybody, 0)[0], balancer.order(anybody, 0)[0], balancer.order(anybody, 0)[0]];
  expect(new Set(first)).toEqual(new Set([1, 2]));
  balancer.released(0);
  balancer.released(0);
  expect(balancer.order(anybody, 0)[0]).toBe(0);
});
