/**
 * What a reader of configuration makes: tables of routes as they were written, each with its place. Nothing here
 * is checked against anything else yet; compile.ts does that.
 */
import type { AddressPattern } from "../model/address.ts";
import type { Place } from "../model/diagnostic.ts";
import type { Target } from "../model/target.ts";

/** Inclusive at both ends, 0…65535. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export type Action =
  | { readonly kind: "target"; readonly target: Target }
  | { readonly kind: "table"; readonly table: string }
  | { readonly kind: "deny" };

/**
 * One route. Each list holds alternatives of which one must fit; an empty list compares nothing. A flow takes the
 * route when every list fits.
 */
export interface DraftRoute {
  readonly place: Place;
  readonly local: readonly AddressPattern[];
  readonly localPorts: readonly PortRange[];
  readonly remote: readonly AddressPattern[];
  readonly remotePorts: readonly PortRange[];
  /** Indices of listeners in the configuration. */
  readonly listeners: readonly number[];
  readonly action: Action;
}

/** The first route that fits is taken; a default is a last route that compares nothing. */
export interface DraftTable {
  readonly name: string;
  readonly place: Place;
  readonly routes: readonly DraftRoute[];
}

/** `tables[0]` is where every lookup starts. */
export interface Draft {
  readonly tables: readonly DraftTable[];
}
