/** Which of a target's receivers a connection goes to. Decisions alone: who is there, and who waits, is told. */
import type { Flow } from "../model/flow.ts";
import type { Target } from "../model/target.ts";
import { flowWords, REMOTE_WORD } from "./record.ts";
import { rank, seedOf } from "./rendezvous.ts";

export type Policy = Pick<Target, "balance" | "fallback" | "spread">;

/** One receiver of a target, as it stands. */
export interface Member {
  /** Of its name (rendezvous.ts). */
  readonly seed: number;
  /** Nobody is there, as far as is known. */
  readonly missing: boolean;
  /** How many connections it has not taken when they came. */
  readonly waiting: number;
  /** The same, and those that have just been added. */
  readonly load: number;
  /** Connections wait for it, and it has taken none of them for some time. */
  readonly stuck: boolean;
}

/** The third word of an IPv4 address in its mapped form, as it lies in a record. */
const MAPPED_WORD = new Uint32Array(Uint8Array.of(0, 0, 0xff, 0xff).buffer)[0]!;

/**
 * The index of the member for the flow whose record starts at word `at`; `turn` is where to begin when nothing else
 * decides. This runs for every connection of such a target: it allocates nothing.
 */
export function choose(
  policy: Policy,
  members: readonly Member[],
  turn: number,
  flows: Uint32Array,
  at: number,
): number {
  const { balance } = policy;
  let best = turn % members.length;
  let bestTier = Number.POSITIVE_INFINITY;
  let bestValue = 0;
  for (let i = 0; i < members.length; i++) {
    const index = (turn + i) % members.length;
    const member = members[index]!;
    const tier = tierOf(policy, member);
    if (tier > bestTier) continue;
    const value =
      balance === "source-hash"
        ? clientRank(member.seed, flows, at)
        : balance === "least-waiting"
          ? -member.load
          : 0;
    if (tier === bestTier && value <= bestValue) continue;
    best = index;
    bestTier = tier;
    bestValue = value;
  }
  return best;
}

/**
 * Where what waits for the member `from` should go instead; `undefined`: it stays. A member that takes what it gets
 * is relieved only by one for which nothing waits, so that nothing goes to and fro.
 */
export function shelterOf(policy: Policy, members: readonly Member[], from: number): number | undefined {
  const { missing, stuck, load } = members[from]!;
  if (load === 0 || !(policy.fallback || (policy.spread && missing))) return undefined;
  let best: number | undefined;
  for (const [index, member] of members.entries()) {
    if (index === from || member.missing || member.stuck) continue;
    if (!(missing || stuck || member.load === 0)) continue;
    if (best === undefined || member.load < members[best]!.load) best = index;
  }
  return best;
}

/** The names of receivers in the order in which the client's hash prefers them. */
export function rankedFor(flow: Flow, receivers: readonly string[]): string[] {
  const words = flowWords(flow);
  const rankOf = (name: string) => clientRank(seedOf(name), words, 0);
  return [...receivers].sort((a, b) => rankOf(b) - rankOf(a));
}

/** A lower one is better, whatever the balance says. */
function tierOf({ fallback, spread }: Policy, { missing, waiting, stuck }: Member): number {
  if (missing) return fallback || spread ? 3 : 0;
  if (!fallback || waiting === 0) return 0;
  return stuck ? 2 : 1;
}

/** A client of IPv6 is its /64: within it, it takes other addresses as it likes (RFC 8981). */
function clientRank(seed: number, flows: Uint32Array, at: number): number {
  const client = at + REMOTE_WORD;
  const mapped = flows[client] === 0 && flows[client + 1] === 0 && flows[client + 2] === MAPPED_WORD;
  return mapped ? rank(seed, flows, client + 3, client + 4) : rank(seed, flows, client, client + 2);
}
