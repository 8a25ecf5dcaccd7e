/**
 * SIGHUP: the configuration is read again. What is wrong, or needs more than a running server can do, is refused
 * whole and changes nothing; the rest takes effect at once.
 */
import { isDeepStrictEqual } from "node:util";
import type { RegistrySettings } from "../config/configuration.ts";
import { SysError } from "../native/errno.ts";
import type { Acceptors } from "./acceptors.ts";
import type { ListenerNumbers } from "./configure.ts";
import { describeDifference } from "./difference.ts";
import { Failure, type Host } from "./host.ts";
import {
  type Binding,
  closeListeners,
  type Listener,
  openListeners,
  planListeners,
  retireListeners,
  sourcesOf,
} from "./listeners.ts";
import type { Change } from "./orders.ts";
import { type Plan, planOf, type ServeOptions } from "./plan.ts";
import { openRegistry, type Registrar, type Registry } from "./registry.ts";
import { restartNeeded, type SourceFile } from "./source-file.ts";

/** What the server does now. */
export interface State {
  readonly plan: Plan;
  readonly listeners: readonly Listener[];
}

export interface Surroundings {
  readonly host: Host;
  readonly options: ServeOptions;
  readonly numbers: ListenerNumbers;
  readonly acceptors: Acceptors;
  readonly binding: Binding;
  /** Absent where there can be no registry: without a file in TOML. */
  readonly registrar: Registrar | undefined;
}

/**
 * Resolves to what is served from now on: the new configuration, or, where it was refused, the old; once what it
 * removed has been closed, so that the next reload could bind it again.
 */
export async function reload(around: Surroundings, file: SourceFile, before: State): Promise<State> {
  const { host } = around;
  try {
    const { after, settled } = apply(around, file, before);
    host.log(`reloaded: ${describeDifference(described(before), described(after))}`);
    await settled;
    return after;
  } catch (error) {
    if (!(error instanceof Failure || error instanceof SysError)) throw error;
    host.log(`not reloaded, and all is as before: ${error.message}`);
    return before;
  }
}

function apply(
  { host, options, numbers, acceptors, registrar, binding }: Surroundings,
  file: SourceFile,
  before: State,
) {
  const plan = planOf(host, options, file.read(), numbers);
  if (!isDeepStrictEqual(plan.server, before.plan.server)) throw restartNeeded("[server] has changed");
  const { workers } = plan.server;
  // Where nobody says where to listen, it goes on where it began.
  const wanted = plan.listeners ?? before.listeners.map(({ settings }) => settings);
  const { listeners, added, removed } = bindMore(wanted, before.listeners, binding);
  const registries = planRegistries(plan.registries, registrar, () => closeListeners(added));
  openListeners(listeners);
  // Ours go first: a listener ends when its last descriptor is closed, and the acceptors empty it before they do.
  retireListeners(removed);
  const settled = acceptors.change(
    plan.table,
    added.flatMap((listener) => sourcesOf(listener, workers, numbers)),
    keepOf(listeners, numbers),
  );
  registrar?.serve(registries);
  return { after: { plan, listeners }, settled };
}

/** One whose socket stays the same keeps it, with other rules perhaps. Where one cannot be opened, none is. */
function planRegistries(
  wanted: readonly RegistrySettings[],
  registrar: Registrar | undefined,
  undo: () => void,
): readonly Registry[] {
  const opened: Registry[] = [];
  try {
    return wanted.map((settings) => {
      const known = registrar?.registries.find((registry) => isSameSocket(registry.settings, settings));
      const registry = openRegistry(settings, known?.socket);
      if (!known) opened.push(registry);
      return registry;
    });
  } catch (error) {
    undo();
    for (const { socket } of opened) {
      socket.remove();
      socket.fd.close();
    }
    throw error instanceof SysError ? restartNeeded(error.message) : error;
  }
}

function isSameSocket(one: RegistrySettings, other: RegistrySettings): boolean {
  return (["path", "mode", "owner", "group"] as const).every((key) => one[key] === other[key]);
}

/** What cannot be bound now could be by a new server, with its privileges, or without the old one in its way. */
function bindMore(...[wanted, had, how]: Parameters<typeof planListeners>) {
  try {
    return planListeners(wanted, had, how);
  } catch (error) {
    throw error instanceof SysError ? restartNeeded(error.message) : error;
  }
}

function described({ plan, listeners }: State) {
  return {
    draft: plan.draft,
    targets: plan.table.targets,
    registries: plan.registries,
    listeners: listeners.map(({ settings }) => settings),
  };
}

/** What acceptors are told of listeners that stay. */
export function keepOf(listeners: readonly Listener[], numbers: ListenerNumbers): Change["keep"] {
  return listeners.map(({ id, settings }) => ({
    id,
    listener: numbers.of(settings.name),
    clearTransparent: settings.clearTransparent,
    proxy: settings.proxy,
  }));
}
