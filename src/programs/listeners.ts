/**
 * What listens: TCP listeners as the control plane holds them. It keeps a descriptor of each for itself, to share,
 * to pass on, or to close; the acceptors have duplicates.
 */
import type { ListenerSettings } from "../config/configuration.ts";
import { Fd } from "../io/fd.ts";
import { admitNew, adoptListener, bindListener, listen, placeOf, refuseNew } from "../io/listener.ts";
import { native } from "../native/library.ts";
import type { ListenerNumbers } from "./configure.ts";
import type { Ending, Source } from "./orders.ts";

export interface Listener {
  /** What acceptors call it. */
  readonly id: number;
  readonly settings: ListenerSettings;
  /** One for each acceptor, all in one SO_REUSEPORT group; or fewer, which the acceptors share. */
  readonly fds: readonly Fd[];
  readonly ending: Ending;
  /** What makes it the one that a configuration means: how it is bound, or, where others bound it, its name. */
  readonly meant: "binding" | "name" | "always";
}

/** For one acceptor. */
export type WorkerSource = Source & { readonly worker: number };

/** How a listener is bound that is not there yet. */
export interface Binding {
  readonly workers: number;
  readonly ending: Ending;
}

/** What a configuration comes to, beside what listens already. */
export interface ListenerPlan {
  readonly listeners: readonly Listener[];
  readonly added: readonly Listener[];
  readonly removed: readonly Listener[];
}

let lastId = 0;

export function nextSourceId(): number {
  return ++lastId;
}

/** An inherited socket that is the listener, wherever a configuration says to listen (`-s`). */
export function inheritListener(fd: number, settings: ListenerSettings): Listener {
  return { id: nextSourceId(), settings, fds: [adoptListener(fd)], ending: "drain", meant: "always" };
}

/**
 * Binds what is wanted and not there yet; nothing listens newly before {@link openListeners}. When one cannot be
 * bound, throws its SysError, and all is as before.
 */
export function planListeners(
  wanted: readonly ListenerSettings[],
  had: readonly Listener[],
  how: Binding,
): ListenerPlan {
  const left = new Set(had);
  using bound = new DisposableStack();
  const added: Listener[] = [];
  const listeners = wanted.map((settings) => {
    const known = [...left].find((listener) => isMeant(listener, settings));
    if (known) {
      left.delete(known);
      return { ...known, settings };
    }
    const listener = bind(settings, how);
    for (const fd of listener.fds) bound.use(fd);
    added.push(listener);
    return listener;
  });
  bound.move();
  return { listeners, added, removed: [...left] };
}

/** Opens them to clients, or sets another backlog; harmless where nothing has changed. */
export function openListeners(listeners: readonly Listener[]): void {
  for (const { fds, settings } of listeners) for (const fd of fds) listen(fd, settings.backlog);
}

/** Goes on with those of a server that may have begun to stop. */
export function reopenListeners(listeners: readonly Listener[]): void {
  for (const { fds, ending } of listeners) if (ending === "refuse") for (const fd of fds) admitNew(fd);
}

/** What the acceptors take connections from; each source's descriptor is a duplicate, which becomes theirs. */
export function sourcesOf(
  { id, fds, settings, ending }: Listener,
  workers: number,
  numbers: ListenerNumbers,
): WorkerSource[] {
  const shared = fds.length < workers;
  // As many pairs as there are of the more numerous: each descriptor is watched, and each acceptor has one.
  return Array.from({ length: Math.max(fds.length, workers) }, (_, index) => ({
    id,
    fd: Fd.from(native.sb_duplicate(fds[index % fds.length]!.number), `listener ${settings.name}`).take(),
    kind: "listener",
    listener: numbers.of(settings.name),
    clearTransparent: settings.clearTransparent,
    proxy: settings.proxy,
    shared,
    ending,
    worker: index % workers,
  }));
}

/** Lets nobody new in where they are ours alone, and closes our descriptors; the acceptors have theirs. */
export function retireListeners(listeners: readonly Listener[]): void {
  for (const { fds, meant } of listeners) if (meant === "binding") for (const fd of fds) refuseNew(fd);
  closeListeners(listeners);
}

export function closeListeners(listeners: readonly Listener[]): void {
  for (const { fds } of listeners) for (const fd of fds) fd.close();
}

function bind(settings: ListenerSettings, { workers, ending }: Binding): Listener {
  const reusePort = settings.reusePort || workers > 1;
  using bound = new DisposableStack();
  const first = bound.use(bindListener({ ...settings, reusePort }));
  // Where the kernel chooses a port, it chooses one for all.
  const { port } = settings.port === 0 ? placeOf(first.number) : settings;
  const others = Array.from({ length: workers - 1 }, () =>
    bound.use(bindListener({ ...settings, port, reusePort })),
  );
  const fds = [first, ...others];
  bound.move();
  return { id: nextSourceId(), settings, fds, ending, meant: "binding" };
}

function isMeant({ meant, settings }: Listener, wanted: ListenerSettings): boolean {
  if (meant === "always") return true;
  return meant === "name" ? settings.name === wanted.name : bindingOf(settings) === bindingOf(wanted);
}

/** All that is settled once a socket is bound. */
function bindingOf(settings: ListenerSettings): string {
  const { address, scope, port, netns, device, transparent, freebind, reuseAddress, reusePort } = settings;
  return [address, scope, port, netns, device, transparent, freebind, reuseAddress, reusePort].join(" ");
}
