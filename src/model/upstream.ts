/** Where a relay goes on to: an address and port, a name that has addresses, or a Unix stream socket. */
import { type Address, isMapped } from "./address.ts";
import type { Flow } from "./flow.ts";
import { formatEndpoint } from "./flow.ts";

export type Upstream =
  /** `port` 0: the connection's own local port. */
  | { readonly kind: "inet"; readonly address: Address; readonly scope: number; readonly port: number }
  | { readonly kind: "name"; readonly name: string; readonly port: number }
  /** A path, or `@name` in the abstract namespace. */
  | { readonly kind: "unix"; readonly path: string };

/** A way to go that needs nothing looked up any more. */
export type Hop = Exclude<Upstream, { kind: "name" }>;

/**
 * NAT64 (RFC 6052): connections come to addresses below `prefix`, and what follows it in theirs takes the place of
 * the same bits of the upstream's address: the last 32 with a prefix of 96 bits, the last 64 with one of 64.
 */
export interface Nat64 {
  readonly prefix: Address;
  readonly length: 96 | 64;
}

export function formatUpstream(upstream: Upstream): string {
  switch (upstream.kind) {
    case "inet":
      return formatEndpoint(upstream.address, upstream.port).replace(
        "]",
        upstream.scope === 0 ? "]" : `%${upstream.scope}]`,
      );
    case "name":
      return `${upstream.name}:${upstream.port}`;
    case "unix":
      return `unix:${upstream.path}`;
  }
}

/** One that means nothing without an interface. */
export function lacksScope(address: Address, scope: number): boolean {
  return scope === 0 && address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
}

/** The upstream of one flow; `undefined` when its local address is not below the NAT64 prefix. */
export function upstreamOf(upstream: Upstream, flow: Flow, nat64: Nat64 | undefined): Upstream | undefined {
  if (nat64 && !isBelow(flow.local, nat64)) return undefined;
  switch (upstream.kind) {
    case "unix":
      return nat64 ? { kind: "unix", path: upstream.path + suffix(flow.local) } : upstream;
    case "name":
      return upstream.port === 0 ? { ...upstream, port: flow.localPort } : upstream;
    case "inet": {
      if (!nat64 && upstream.port !== 0) return upstream;
      const address = upstream.address.slice();
      if (nat64) address.set(flow.local.subarray(nat64.length / 8), nat64.length / 8);
      return { ...upstream, address, port: upstream.port || flow.localPort };
    }
  }
}

function isBelow(address: Address, { prefix, length }: Nat64): boolean {
  return address.subarray(0, length / 8).every((byte, index) => byte === prefix[index]);
}

/** `-` and the last 32 bits as eight hex digits. */
function suffix(local: Address): string {
  return `-${Buffer.from(local.subarray(12)).toString("hex")}`;
}

/**
 * The order of RFC 8305, section 4: as the resolver sorted them, but the families take turns, the one of the first
 * address first.
 */
export function interleave(addresses: readonly Address[]): Address[] {
  const first = addresses.filter((address) => isMapped(address) === isMapped(addresses[0]!));
  const second = addresses.filter((address) => !first.includes(address));
  return first
    .flatMap((address, index) => [address, ...second.slice(index, index + 1)])
    .concat(second.slice(first.length));
}
