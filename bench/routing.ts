/**
 * What routing costs: compiling 100,000 routes (an address and a port each, each to a target of its own), and
 * one lookup among 10, 1,000 and 100,000 of them.
 *
 * Flows are looked up as an acceptor does it, in batches of 64 in one small buffer. Each is for a random
 * route, so that of 100,000 it is hardly ever one whose memory the processor's nearest caches still hold.
 */
import { prefixMask } from "../src/model/address.ts";
import { targetOf } from "../src/model/target.ts";
import { compile } from "../src/routing/compile.ts";
import type { Draft, DraftRoute } from "../src/routing/draft.ts";
import { route } from "../src/routing/match.ts";
import { FLOW_WORDS, flowOf, LOCAL_WORD, PORTS_WORD, portsWord } from "../src/routing/record.ts";
import type { Table } from "../src/routing/table.ts";

const SIZES = [10, 1_000, 100_000];
const ROUNDS = 15;
const BATCH = 64;
const BATCHES = 5_000;

const HOST = prefixMask(128);
const PLACE = { file: "bench.toml", line: 1, column: 1 };

/** Addresses scattered over the 256 networks of 2001:db8::/56, made from numbers without looking any up. */
function writeFlow(flows: Uint32Array, at: number, number: number): void {
  flows[at + LOCAL_WORD] = 0xb80d0120;
  flows[at + LOCAL_WORD + 1] = scramble(number) << 24;
  flows[at + LOCAL_WORD + 2] = scramble(number + 0x10000000);
  flows[at + LOCAL_WORD + 3] = scramble(number + 0x20000000);
  flows[at + PORTS_WORD] = portsWord(1 + (number % 1000), 40_000);
}

/** Every bit of the result depends on every bit of the number (the finalizer of MurmurHash3). */
function scramble(number: number): number {
  let bits = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}

function draftOf(size: number): Draft {
  const words = new Uint32Array(FLOW_WORDS);
  const routes = Array.from({ length: size }, (_, number): DraftRoute => {
    writeFlow(words, 0, number);
    const { local, localPort } = flowOf(words, 0, 0);
    const target = targetOf({ kind: "unix", path: `/run/bench/${number}` });
    return {
      place: PLACE,
      local: [{ address: local, mask: HOST }],
      localPorts: [{ first: localPort, last: localPort }],
      remote: [],
      remotePorts: [],
      listeners: [],
      action: { kind: "target", target },
    };
  });
  return { tables: [{ name: "main", place: PLACE, routes }] };
}

function compiled(draft: Draft): Table {
  const { table, diagnostics } = compile(draft);
  if (!table || diagnostics.length > 0) throw new Error("the draft has a fault");
  return table;
}

/** Nanoseconds for one lookup among `size` routes; making the flows is not counted. */
function lookupTime(table: Table, size: number): number {
  const flows = new Uint32Array(BATCH * FLOW_WORDS);
  let nanoseconds = 0;
  let missed = 0;
  for (let batch = 0; batch < BATCHES; batch++) {
    for (let i = 0; i < BATCH; i++) writeFlow(flows, i * FLOW_WORDS, Math.floor(Math.random() * size));
    const start = Bun.nanoseconds();
    for (let at = 0; at < flows.length; at += FLOW_WORDS) if (route(table, flows, at, 0) < 0) missed++;
    nanoseconds += Bun.nanoseconds() - start;
  }
  if (missed > 0) throw new Error(`${missed} lookups found nothing`);
  return nanoseconds / BATCHES / BATCH;
}

function milliseconds(action: () => void): number {
  const start = Bun.nanoseconds();
  action();
  return (Bun.nanoseconds() - start) / 1e6;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

const largest = draftOf(SIZES.at(-1)!);
const cold = milliseconds(() => compiled(largest));
const warm = Array.from({ length: ROUNDS }, () => milliseconds(() => compiled(largest)));

const cases = SIZES.map((size) => ({ size, table: compiled(draftOf(size)), times: [] as number[] }));
const cloned = milliseconds(() => structuredClone(cases.at(-1)!.table));
for (let round = 0; round < ROUNDS; round++) {
  for (const { table, size, times } of cases) times.push(lookupTime(table, size));
}

const [few] = cases.map(({ times }) => median(times));
const number = (value: number, digits: number) => value.toFixed(digits).padStart(8);
console.log(`compile ${SIZES.at(-1)} routes, first time   ${number(cold, 0)} ms`);
console.log(`                        median       ${number(median(warm), 0)} ms`);
console.log(`clone the table for a Worker         ${number(cloned, 0)} ms`);
for (const { size, times } of cases) {
  const ratio = (median(times) / few!).toFixed(2);
  console.log(
    `lookup among ${String(size).padStart(6)} routes            ${number(median(times), 1)} ns  x ${ratio}`,
  );
}
