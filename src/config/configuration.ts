/** What a configuration file says, in either language: the server's own settings, listeners, and the draft. */
import type { Address } from "../model/address.ts";
import type { Diagnostic } from "../model/diagnostic.ts";
import type { ProxyReceiving } from "../model/proxy.ts";
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
  /** Absent where no PROXY header is ever looked for. */
  readonly proxy?: ProxyReceiving;
  /** A name below /run/netns, or a path. */
  readonly netns?: string;
  /** Bind to this network interface (SO_BINDTODEVICE). */
  readonly device?: string;
}

/** Who may take which slots of a registry. */
export interface Allowance {
  readonly slots: readonly number[];
  /** Names or numbers; `undefined`: whoever may connect. */
  readonly users?: readonly string[];
  /** A slot that is taken goes over to who asks for it, instead of being refused. */
  readonly takeover: boolean;
}

/** Where receivers register for slots (wire/registration.ts). */
export interface RegistrySettings {
  /** Of its socket, or `@name`. */
  readonly path: string;
  /** Permission bits of the socket. */
  readonly mode: number;
  /** Names or numbers, as for `-u`; the server's own unless given. */
  readonly owner?: string;
  readonly group?: string;
  /** The most control connections that one user may have open. */
  readonly perUser: number;
  readonly allow: readonly Allowance[];
}

export interface Configuration {
  readonly server: ServerSettings;
  readonly listeners: readonly ListenerSettings[];
  readonly registries: readonly RegistrySettings[];
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

export const REGISTRY_DEFAULTS = { mode: 0o660, perUser: 5 } as const;

/** Whether the file itself says where to listen, so that nothing else should. */
export function saysWhereToListen({ listeners }: Configuration): boolean {
  return listeners[0] !== LISTENER_DEFAULTS;
}
