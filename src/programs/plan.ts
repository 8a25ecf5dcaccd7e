/** What the command line and the configuration file ask for together, checked and compiled. */
import {
  LISTENER_DEFAULTS,
  type ListenerSettings,
  type RegistrySettings,
  SERVER_DEFAULTS,
  type ServerSettings,
  saysWhereToListen,
} from "../config/configuration.ts";
import type { IdentityRequest } from "../io/identity.ts";
import { formatDiagnostic } from "../model/diagnostic.ts";
import { hasGroups, type Receiver, type Target, targetOf } from "../model/target.ts";
import { compile } from "../routing/compile.ts";
import type { Draft } from "../routing/draft.ts";
import type { Table } from "../routing/table.ts";
import { type ListenerNumbers, mustConfigure } from "./configure.ts";
import type { Host } from "./host.ts";

export interface Registration {
  readonly slot: number;
  readonly path: string;
}

/** What the command line says about listeners, over what the file says. */
export type ListenerOverrides = Partial<Omit<ListenerSettings, "name" | "netns" | "device">>;

export interface Idle {
  readonly by: string;
  readonly options: readonly string[];
}

export interface ServeOptions {
  readonly config: string;
  readonly listener: ListenerOverrides;
  readonly identity: IdentityRequest;
  /** `-S`, `-i`: where everything goes, without a configuration. */
  readonly direct: Receiver | undefined;
  readonly registration: Registration | undefined;
  /** `-s`: an inherited listener. */
  readonly inherited: number | undefined;
  /** `--takeover`: where the running server is found, and where we wait for our successor. */
  readonly takeover: string | undefined;
  /** `-U` */
  readonly substitute: boolean;
  /** `-e`: the program to become, and its arguments. */
  readonly exec: readonly string[] | undefined;
  /** Options that another one leaves without effect; each as it was meant, with a letter. */
  readonly idle: readonly Idle[];
  /** `-d`: the arguments to start this program with again. */
  readonly background: readonly string[] | undefined;
}

export interface Plan {
  readonly table: Table;
  /** What the table was made from. */
  readonly draft: Draft;
  /** `undefined`: nobody has said where to listen. */
  readonly listeners: readonly ListenerSettings[] | undefined;
  readonly registries: readonly RegistrySettings[];
  readonly server: ServerSettings;
  readonly identity: IdentityRequest;
}

/** The plan of a configuration. Throws a Failure with everything that is wrong with it. */
export function planOf(host: Host, options: ServeOptions, text: string, numbers: ListenerNumbers): Plan {
  const { configuration, table, warnings } = mustConfigure(options.config, text, numbers);
  for (const warning of warnings) host.log(formatDiagnostic(warning));
  const { server, draft } = configuration;
  const { identity } = options;
  return {
    table: options.substitute ? withGroups(table) : table,
    draft,
    listeners: listenersOf(options, saysWhereToListen(configuration) ? configuration.listeners : undefined),
    registries: configuration.registries,
    server,
    identity: {
      user: identity.user ?? server.user,
      group: identity.group ?? server.group,
      groups: identity.groups ?? server.groups,
      keepGroups: identity.keepGroups,
      chroot: identity.chroot ?? server.chroot,
    },
  };
}

/** `-S`, `-i`: a table of one route. */
export function directPlan(receiver: Receiver, options: ServeOptions): Plan {
  const place = { file: "command line", line: 0, column: 0 };
  const any = { local: [], localPorts: [], remote: [], remotePorts: [], listeners: [] };
  const action = { kind: "target", target: targetOf(receiver) } as const;
  const draft = { tables: [{ name: "main", place, routes: [{ place, ...any, action }] }] };
  const table = compile(draft).table!;
  return {
    table: options.substitute ? withGroups(table) : table,
    draft,
    listeners: listenersOf(options, undefined),
    registries: [],
    server: SERVER_DEFAULTS,
    identity: options.identity,
  };
}

/** -l or -p name the one listener that is meant; the other options hold for each of the file's. */
export function listenersOf(
  { listener }: ServeOptions,
  written: readonly ListenerSettings[] | undefined,
): ListenerSettings[] | undefined {
  const named = listener.address !== undefined || listener.port !== undefined;
  const meant = named ? [LISTENER_DEFAULTS] : written;
  return meant?.map((settings) => ({ ...settings, ...listener }));
}

/** `-U`: the original's patterns in paths are filled in. */
function withGroups(table: Table): Table {
  const targets = table.targets.map((target): Target => {
    const receivers = target.receivers.map((receiver): Receiver => {
      if (receiver.kind !== "unix" || receiver.fill || !hasGroups(receiver.path)) return receiver;
      return { ...receiver, fill: "groups" };
    });
    return { ...target, receivers };
  });
  return { ...table, targets };
}
