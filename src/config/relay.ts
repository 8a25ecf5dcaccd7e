/** What one relay is told, by `[[relay]]` or by the command line. */
import type { Address } from "../model/address.ts";
import type { Diagnostic } from "../model/diagnostic.ts";
import type { ProxyReceiving } from "../model/proxy.ts";
import { WAIT_MS_DEFAULT } from "../model/target.ts";
import type { Nat64, Upstream } from "../model/upstream.ts";

import { PROXY_DEFAULTS } from "./proxy.ts";

/** Where its connections come from. */
export type Inlet =
  /** Received on a Unix datagram socket bound at this path. */
  | { readonly kind: "unix"; readonly path: string }
  /** Received for this slot of the server at the path. */
  | { readonly kind: "slot"; readonly slot: number; readonly path: string }
  /** An inherited socket: accepted where it listens, received where it does not. */
  | { readonly kind: "fd"; readonly fd: number }
  /** The same, by the name that the service manager gives it. */
  | { readonly kind: "passed"; readonly name: string };

export const BALANCES = ["round-robin", "least-connections", "source"] as const;
export type Balance = (typeof BALANCES)[number];

/** In milliseconds; 0: for ever. */
export interface RelayTimeouts {
  readonly connect: number;
  /** Without a byte in either direction. */
  readonly idle: number;
  /** The same once one side has finished. */
  readonly halfClosed: number;
  readonly total: number;
}

export interface RelaySettings {
  /** What log lines call it. */
  readonly name: string;
  readonly from: Inlet;
  readonly to: readonly Upstream[];
  readonly balance: Balance;
  /** How long a target that could not be reached is tried last. */
  readonly retryMs: number;
  readonly nat64?: Nat64;
  /** The address to connect from: the client's own, or this one. */
  readonly source?: "client" | Address;
  /** A name below /run/netns, or a path. */
  readonly netns?: string;
  /** Version of the PROXY header to send. */
  readonly sendProxy?: 1 | 2;
  /** The network namespace that clients are in, as the header shall call it. */
  readonly clientNetns?: string;
  readonly proxy: ProxyReceiving;
  readonly timeouts: RelayTimeouts;
  /** The most connections at a time; more wait. */
  readonly max: number;
  readonly perSource?: { readonly most: number; readonly prefixLength: number };
}

/** As many as anybody could have; a limit that is always there is one case less. */
export const CONNECTIONS_MAX = 1_000_000;

export const RELAY_DEFAULTS = {
  balance: "round-robin",
  retryMs: 10_000,
  proxy: PROXY_DEFAULTS,
  // An idle session is not a fault; one whose other half will never end is, some day.
  timeouts: { connect: WAIT_MS_DEFAULT, idle: 0, halfClosed: 3_600_000, total: 0 },
  max: CONNECTIONS_MAX,
} as const satisfies Partial<RelaySettings>;

/** A whole file. */
export interface RelayConfiguration {
  readonly relays: readonly RelaySettings[];
}

/** `configuration` is there exactly when no diagnostic is an error. */
export interface RelayReading {
  readonly configuration?: RelayConfiguration;
  readonly diagnostics: readonly Diagnostic[];
}
