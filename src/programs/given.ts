/**
 * What somebody else has for us when we start, so that nothing is bound anew and nobody is turned away: sockets that
 * a service manager passes, or keeps for us over a restart.
 */
import { LISTENER_DEFAULTS, type ListenerSettings } from "../config/configuration.ts";
import { Fd } from "../io/fd.ts";
import { adoptListener, placeOf } from "../io/listener.ts";
import { FAMILY, isTcpSocket, socketKind } from "../io/socket.ts";
import type { PassedSocket } from "../io/systemd.ts";
import { unixName } from "../io/unix.ts";
import { formatEndpoint } from "../model/flow.ts";
import { EXIT, Failure } from "./host.ts";
import { type Listener, nextSourceId } from "./listeners.ts";
import type { Registered } from "./registry.ts";

export interface Given {
  readonly listeners: readonly Listener[];
  /** Listening sockets of registries, by path. */
  readonly registries: ReadonlyMap<string, Fd>;
  readonly registered: readonly Registered[];
}

export const NOTHING: Given = { listeners: [], registries: new Map(), registered: [] };

/** How what we store with the manager is called, and told from what its units say. */
const STORED = "socketbox.";

export const storedName = {
  listener: (name: string) => encode(`${STORED}listener.${name}`),
  registry: (path: string) => encode(`${STORED}registry.${path}`),
  slot: (slot: number, path: string) => encode(`${STORED}slot.${slot}.${path}`),
};

/** Sorts passed sockets into what they are. Throws a Failure for one that the server has no use for. */
export function givenByManager(passed: readonly PassedSocket[], wanted: readonly ListenerSettings[]): Given {
  const registries = new Map<string, Fd>();
  const registered: Registered[] = [];
  const listeners = new Map<string, PassedSocket[]>();
  for (const { fd, name } of passed) {
    const [, kind, rest] = /^socketbox\.(registry|slot)\.(.*)$/.exec(decode(name)) ?? [];
    const [, slot, path] = /^(\d+)\.(.*)$/.exec(rest ?? "") ?? [];
    if (isTcpSocket(fd)) listeners.set(name, [...(listeners.get(name) ?? []), { fd, name }]);
    else if (kind === "slot" && path !== undefined) registered.push({ slot: Number(slot), path, fd });
    else registries.set(kind === "registry" ? rest! : registryPath(fd, name), new Fd(fd));
  }
  return {
    listeners: [...listeners].map(([name, sockets]) => listenerOf(name, sockets, wanted)),
    registries,
    registered,
  };
}

function registryPath(fd: number, name: string): string {
  const kind = socketKind(fd);
  const path = unixName(fd);
  if (path && kind?.family === FAMILY.unix && kind.listening) return path;
  throw new Failure(
    EXIT.refused,
    `the passed socket ${fd} (${name}) is no TCP listener, and no registry's (ListenSequentialPacket=)`,
  );
}

function listenerOf(
  name: string,
  sockets: readonly PassedSocket[],
  wanted: readonly ListenerSettings[],
): Listener {
  const place = placeOf(sockets[0]!.fd);
  const fds = sockets.map(({ fd }) => adoptListener(fd));
  const stored = /^socketbox\.listener\.(.*)$/.exec(decode(name))?.[1];
  const meant = wanted.find((settings) => settings.name === (stored ?? name));
  // A port that the kernel was to choose is the one that it chose then.
  const port = meant?.port === 0 ? 0 : place.port;
  const same = meant && formatEndpoint(meant.address, meant.port) === formatEndpoint(place.address, port);
  const settings = same ? meant : { ...LISTENER_DEFAULTS, ...place, name: stored ?? name };
  // What we bound ourselves is still meant only where the file still says so; what a unit binds is the unit's affair.
  return stored === undefined
    ? { id: nextSourceId(), settings, fds, ending: "leave", meant: "name" }
    : { id: nextSourceId(), settings, fds, ending: "drain", meant: "binding" };
}

/** Names of descriptors have no colon and no control character (sd_notify(3), FDNAME). */
function encode(name: string): string {
  return name.replace(/[^!-$&-9;-~]/gu, (character) => encodeURIComponent(character));
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // not one of ours
  }
}
