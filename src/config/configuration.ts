/** What a configuration file says, in either language: the server's own settings, listeners, and the draft. */
import type { Address } from "../model/address.ts";
import type { Diagnostic } from "../model/diagnostic.ts";
import type { Draft } from "../routing/draft.ts";

export interface ServerSettings {
  /** Name or number, as for `-u`. */
  readonly user?: string;
  readonly group?: string;
  /** Supplementary groups to keep; `undefined`: none. */
  readonly groups?: readonly string[];
  readonly chroot?: string;
  /** Data-plane threads. */
  readonly workers: number;
}

export interface ListenerSettings {
  /** Routes refer to it by this name. */
  readonly name: string;
  readonly address: Address;
  /** Scope id of a link-local address; 0 for none. */
  readonly scope: number;
  readonly port: number;
  readonly transparent: boolean;
  readonly freebind: boolean;
  readonly reuseAddress: boolean;
  readonly reusePort: boolean;
  readonly backlog: number;
  /** Clear IPV6_TRANSPARENT on every accepted socket before it is sent. */
  readonly clearTransparent: boolean;
  /** A name below /run/netns, or a path. */
  readonly netns?: string;
  /** Bind to this network interface (SO_BINDTODEVICE). */
  readonly device?: string;
}

export interface Configuration {
  readonly server: ServerSettings;
  readonly listeners: readonly ListenerSettings[];
  readonly draft: Draft;
}

/** `configuration` is there exactly when no diagnostic is an error. */
export interface Reading {
  readonly configuration?: Configuration;
  readonly diagnostics: readonly Diagnostic[];
}

export const SERVER_DEFAULTS: ServerSettings = { workers: 1 };

/** `socketbox` without a word about listeners: every address, port 80. */
export const LISTENER_DEFAULTS: ListenerSettings = {
  name: "main",
  address: new Uint8Array(16),
  scope: 0,
  port: 80,
  transparent: false,
  freebind: false,
  reuseAddress: true,
  reusePort: false,
  backlog: 4096,
  clearTransparent: false,
};

/** Whether the file itself says where to listen, so that nothing else should. */
export function saysWhereToListen({ listeners }: Configuration): boolean {
  return listeners[0] !== LISTENER_DEFAULTS;
}
