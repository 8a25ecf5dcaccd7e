/** Random drafts whose routes overlap, and random flows that mostly hit something. */
import fc from "fast-check";
import { type Address, type AddressPattern, parseAddress, prefixMask } from "../../src/model/address.ts";
import type { Flow } from "../../src/model/flow.ts";
import type { Draft, DraftRoute, PortRange } from "../../src/routing/draft.ts";
import { draft, route } from "./drafts.ts";

const TABLES = ["main", "second", "third", "fourth"];
const TO = ["deny", "/run/a", "/run/b", "/run/c"];
const LISTENERS = [0, 1, 2];
/** Few, and alike in their first bytes or in their last. */
const ADDRESSES = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:8000::1", "fe80::1"]
  .concat(["192.0.2.1", "192.0.2.129", "198.51.100.1", "::", "::1"])
  .map((text) => parseAddress(text)!);
const MASKS = [0, 1, 31, 32, 33, 48, 64, 96, 120, 127, 128]
  .map(prefixMask)
  .concat(["::ffff:ffff:ffff:ffff", "::ff", "ffff::1", "0:0:1::"].map((text) => parseAddress(text)!));
const PORTS = [0, 1, 22, 79, 80, 81, 443, 8000, 8005, 8010, 8011, 32768, 65534, 65535];

const address = fc.constantFrom(...ADDRESSES);
const port = fc.oneof(fc.constantFrom(...PORTS), fc.integer({ min: 0, max: 65535 }));

const pattern: fc.Arbitrary<AddressPattern> = fc.record({ address, mask: fc.constantFrom(...MASKS) });
/** Short ones mostly: a long range at both ends is hundreds of entries. */
const range: fc.Arbitrary<PortRange> = fc
  .tuple(
    port,
    fc.oneof({ weight: 4, arbitrary: fc.constantFrom(0, 0, 1, 10) }, { weight: 1, arbitrary: port }),
  )
  .map(([first, more]) => ({ first, last: Math.min(first + more, 65535) }));

/** Nothing, mostly; else one alternative or two. */
function few<T>(alternative: fc.Arbitrary<T>): fc.Arbitrary<T[]> {
  const some = fc.array(alternative, { minLength: 1, maxLength: 2 });
  return fc.oneof({ weight: 3, arbitrary: fc.constant<T[]>([]) }, { weight: 2, arbitrary: some });
}

/** A route of the table with this index: it jumps to later tables only, so that there are no circles. */
function anyRoute(index: number, tables: number): fc.Arbitrary<DraftRoute> {
  const later = TABLES.slice(index + 1, tables).map((name) => `table:${name}`);
  const parts = {
    local: few(pattern),
    localPorts: few(range),
    remote: few(pattern),
    remotePorts: few(range),
    listeners: few(fc.constantFrom(...LISTENERS)),
  };
  return fc
    .record({ to: fc.constantFrom(...TO, ...later), ...parts })
    .map(({ to, ...rest }) => route(to, rest));
}

export const anyDraft: fc.Arbitrary<Draft> = fc.integer({ min: 1, max: TABLES.length }).chain((count) => {
  const tables = TABLES.slice(0, count).map((_, index) => fc.array(anyRoute(index, count), { maxLength: 8 }));
  return fc
    .tuple(...tables)
    .map((routes) => draft(Object.fromEntries(routes.map((list, i) => [TABLES[i]!, list]))));
});

/** A flow that fits most of what a random route of the draft compares. */
function anyFlow({ tables }: Draft): fc.Arbitrary<Flow> {
  const routes = tables.flatMap(({ routes }) => routes);
  const aim = fc.constantFrom(route("deny"), ...routes);
  return aim.chain(({ local, localPorts, remote, remotePorts, listeners }) =>
    fc.record({
      local: fc.oneof(address, ...local.map(insidePattern)),
      localPort: fc.oneof(port, ...localPorts.map(insideRange)),
      remote: fc.oneof(address, ...remote.map(insidePattern)),
      remotePort: fc.oneof(port, ...remotePorts.map(insideRange)),
      listener: fc.constantFrom(...LISTENERS, ...listeners),
    }),
  );
}

export const anyDraftAndFlows: fc.Arbitrary<[Draft, Flow[]]> = anyDraft.chain((draft) =>
  fc.tuple(fc.constant(draft), fc.array(anyFlow(draft), { minLength: 1, maxLength: 30 })),
);

function insidePattern({ address, mask }: AddressPattern): fc.Arbitrary<Address> {
  const any = fc.uint8Array({ minLength: 16, maxLength: 16 });
  return any.map((bits) => bits.map((byte, i) => (address[i]! & mask[i]!) | (byte & ~mask[i]!)));
}

function insideRange({ first, last }: PortRange): fc.Arbitrary<number> {
  return fc.oneof(fc.constantFrom(first, last), fc.integer({ min: first, max: last }));
}
