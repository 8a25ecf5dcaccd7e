import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BALANCES } from "../../src/model/target.ts";
import { choose, type Member, type Policy, rankedFor, shelterOf } from "../../src/routing/choose.ts";
import { flowWords } from "../../src/routing/record.ts";
import { seedOf } from "../../src/routing/rendezvous.ts";
import { flow } from "./drafts.ts";

const ROUND: Policy = { balance: "round-robin", fallback: false, spread: false };
const LEAST: Policy = { ...ROUND, balance: "least-waiting" };
const HASH: Policy = { ...ROUND, balance: "source-hash" };
const FALLBACK: Policy = { ...ROUND, fallback: true };
const SPREAD: Policy = { ...ROUND, spread: true };

/** A member of this name that takes what it gets, unless said otherwise. */
const member = (name: string, state: Partial<Member> = {}): Member => ({
  seed: seedOf(name),
  missing: false,
  waiting: state.load ?? 0,
  load: 0,
  stuck: false,
  ...state,
});
const [A, B, C] = ["a", "b", "c"].map((name) => member(name)) as [Member, Member, Member];
const gone = (name: string, state = {}) => member(name, { missing: true, ...state });

/** What so many connections in turn choose. */
function chosen(policy: Policy, members: readonly Member[], count = 6, client = "192.0.2.1"): string {
  const words = flowWords(flow({ remote: client }));
  let turn = 0;
  let names = "";
  for (let i = 0; i < count; i++) {
    const index = choose(policy, members, turn, words, 0);
    turn = index + 1;
    names += "abcdefgh"[index];
  }
  return names;
}

describe("round-robin", () => {
  test("goes round", () => {
    expect(chosen(ROUND, [A, B, C])).toBe("abcabc");
  });

  test("does not look whether anybody is there, or full", () => {
    expect(chosen(ROUND, [A, gone("b"), member("c", { load: 9 })])).toBe("abcabc");
  });

  test("passes a missing one by with fallback or spread, and its neighbour gets no more for it than the others", () => {
    for (const policy of [FALLBACK, SPREAD]) {
      expect(chosen(policy, [A, gone("b"), C])).toBe("acacac");
    }
  });

  test("passes one by that others wait for with fallback, not with spread", () => {
    expect(chosen(FALLBACK, [A, member("b", { load: 1 }), C])).toBe("acacac");
    expect(chosen(SPREAD, [A, member("b", { load: 1 }), C])).toBe("abcabc");
  });

  test("with fallback takes one that is full before one that is stuck, and that before one that is missing", () => {
    const full = member("c", { load: 5 });
    const stuck = member("b", { load: 1, stuck: true });
    expect(chosen(FALLBACK, [gone("a"), stuck, full], 3)).toBe("ccc");
    expect(chosen(FALLBACK, [gone("a"), stuck], 3)).toBe("bbb");
    expect(chosen(FALLBACK, [gone("a"), gone("b")], 4)).toBe("abab");
  });

  test("does not take one for full because others of the same batch are on their way to it", () => {
    expect(chosen(FALLBACK, [A, member("b", { load: 1, waiting: 0 })], 4)).toBe("abab");
  });
});

describe("least-waiting", () => {
  test("takes the one that fewest wait for, those just added too; equal ones take turns", () => {
    expect(
      chosen(LEAST, [
        member("a", { load: 3 }),
        member("b", { load: 2, waiting: 0 }),
        member("c", { load: 9 }),
      ]),
    ).toBe("bbbbbb");
    expect(chosen(LEAST, [A, B, C])).toBe("abcabc");
  });

  test("counts what waits for a missing one as well", () => {
    expect(chosen(LEAST, [gone("a", { load: 4 }), member("b", { load: 5 })], 2)).toBe("aa");
    expect(chosen({ ...LEAST, spread: true }, [gone("a"), member("b", { load: 5 })], 2)).toBe("bb");
  });
});

describe("source-hash", () => {
  const members = [..."abcdefgh"].map((name) => member(name));
  const client = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const of = (remote: Uint8Array, policy = HASH, all: readonly Member[] = members, turn = 0) =>
    choose(policy, all, turn, flowWords({ ...flow(), remote }), 0);

  test("gives a client the same member whatever its port, the turn, and the load", () => {
    fc.assert(
      fc.property(client, fc.nat(65535), fc.nat(1000), (remote, remotePort, turn) => {
        const words = flowWords({ ...flow(), remote, remotePort });
        const loaded = members.map((one, index) => ({ ...one, load: index, waiting: index }));
        expect(choose(HASH, loaded, turn, words, 0)).toBe(of(remote));
      }),
    );
  });

  test("takes all of an IPv6 client's /64 for one, and each IPv4 address for itself", () => {
    fc.assert(
      fc.property(client, fc.uint8Array({ minLength: 8, maxLength: 8 }), (remote, host) => {
        fc.pre(!remote.subarray(0, 8).every((byte) => byte === 0));
        const other = remote.slice();
        other.set(host, 8);
        expect(of(other)).toBe(of(remote));
      }),
    );
    const mapped = Array.from({ length: 256 }, (_, n) => chosen(HASH, members, 1, `192.0.2.${n}`));
    expect(new Set(mapped).size).toBe(members.length);
  });

  test("moves only the clients of a member that goes, and spreads those over all others", () => {
    const clients = Array.from({ length: 4096 }, (_, n) => {
      const address = new Uint8Array(16);
      address.set([0x20, 1, 0xd, 0xb8, 0, 0, n >> 8, n & 255]);
      return address;
    });
    const without = members.map((one, index) => (index === 3 ? { ...one, missing: true } : one));
    const moved = new Map<number, number>();
    for (const remote of clients) {
      const before = of(remote);
      const after = of(remote, { ...HASH, fallback: true }, without);
      if (before !== 3) expect(after).toBe(before);
      else moved.set(after, (moved.get(after) ?? 0) + 1);
    }
    expect([...moved.keys()].sort()).toEqual([0, 1, 2, 4, 5, 6, 7]);
    // 4096 / 8 clients among 7: 73 each, a standard deviation of 8.
    for (const count of moved.values()) expect(Math.abs(count - 73)).toBeLessThan(50);
  });

  test("does not depend on the order in which the members are listed", () => {
    fc.assert(
      fc.property(client, fc.shuffledSubarray(members, { minLength: 8 }), (remote, shuffled) => {
        expect(shuffled[of(remote, HASH, shuffled)]).toBe(members[of(remote)]!);
      }),
    );
  });

  test("rankedFor begins with the one that choose takes", () => {
    fc.assert(
      fc.property(client, (remote) => {
        const names = [..."abcdefgh"];
        expect(rankedFor({ ...flow(), remote }, names)[0]).toBe(names[of(remote)]!);
      }),
    );
  });
});

const state = fc.record({
  seed: fc.nat(),
  missing: fc.boolean(),
  load: fc.nat(3),
  waiting: fc.nat(3),
  stuck: fc.boolean(),
});
const policies = fc.record({
  balance: fc.constantFrom(...BALANCES),
  fallback: fc.boolean(),
  spread: fc.boolean(),
});

test("whatever the policy: with fallback nobody who is missing or stuck is chosen while another is there", () => {
  fc.assert(
    fc.property(
      policies,
      fc.array(state, { minLength: 1, maxLength: 6 }),
      fc.nat(),
      (policy, members, turn) => {
        const taken = members[choose(policy, members, turn, flowWords(flow()), 0)]!;
        if (!policy.fallback) return;
        if (members.some(({ missing }) => !missing)) expect(taken.missing).toBe(false);
        if (members.some(({ missing, waiting }) => !missing && waiting === 0)) expect(taken.waiting).toBe(0);
      },
    ),
  );
});

describe("what waits", () => {
  test("stays without fallback and spread", () => {
    expect(shelterOf(ROUND, [gone("a", { load: 5 }), B], 0)).toBeUndefined();
  });

  test("for a missing one goes to the one that fewest wait for", () => {
    const members = [gone("a", { load: 5 }), member("b", { load: 3 }), member("c", { load: 2 })];
    for (const policy of [FALLBACK, SPREAD]) expect(shelterOf(policy, members, 0)).toBe(2);
  });

  test("for one that only is full goes to one that nobody waits for, with fallback alone", () => {
    const members = [member("a", { load: 5 }), member("b", { load: 1 }), C];
    expect(shelterOf(FALLBACK, members, 0)).toBe(2);
    expect(shelterOf(FALLBACK, members.slice(0, 2), 0)).toBeUndefined();
    expect(shelterOf(SPREAD, members, 0)).toBeUndefined();
  });

  test("for a stuck one goes to any that takes something, with fallback", () => {
    const stuck = member("a", { load: 5, stuck: true });
    expect(shelterOf(FALLBACK, [stuck, member("b", { load: 9 })], 0)).toBe(1);
    expect(shelterOf(FALLBACK, [stuck, member("b", { load: 1, stuck: true }), gone("c")], 0)).toBeUndefined();
  });

  test("never goes to one that is missing or stuck, and nowhere when nothing waits", () => {
    fc.assert(
      fc.property(policies, fc.array(state, { minLength: 1, maxLength: 6 }), (policy, members) => {
        for (const [from, { load }] of members.entries()) {
          const to = shelterOf(policy, members, from);
          if (to === undefined) continue;
          expect(load).toBeGreaterThan(0);
          expect(to).not.toBe(from);
          expect(members[to]).toMatchObject({ missing: false, stuck: false });
        }
      }),
    );
  });
});
