/**
 * The server's control plane. It sets up in the order of the original (bind, open the configuration, give up
 * privileges, parse, listen), hands what it made to the acceptors, and from then on only reports what they tell.
 */
import { LISTENER_DEFAULTS, type ListenerSettings } from "../config/configuration.ts";
import { Fd } from "../io/fd.ts";
import { assumeIdentity, type IdentityRequest, resolveIdentity } from "../io/identity.ts";
import { adoptListener, bindListener, listen } from "../io/listener.ts";
import { registerMailbox } from "../io/mailbox.ts";
import { isUnixSocket } from "../io/socket.ts";
import { exec, findProgram, inheritedFds, passOn, startedWith } from "../io/spawn.ts";
import { formatDiagnostic } from "../model/diagnostic.ts";
import { formatEndpoint } from "../model/flow.ts";
import { formatReceiver, hasGroups, type Receiver, type Target, targetOf } from "../model/target.ts";
import { native } from "../native/library.ts";
import { compile } from "../routing/compile.ts";
import type { Table } from "../routing/table.ts";
import { Acceptors } from "./acceptors.ts";
import { goToBackground, prepareReady } from "./background.ts";
import { mustConfigure, readText } from "./configure.ts";
import { childEnvironment, EXIT, Failure, type Host, strictMode } from "./host.ts";
import type { Source } from "./orders.ts";

export interface Registration {
  readonly slot: number;
  readonly path: string;
}

/** What the command line says about listeners, over what the file says. */
export type ListenerOverrides = Partial<Omit<ListenerSettings, "name" | "scope" | "netns" | "device">>;

export interface ServeOptions {
  readonly config: string;
  readonly listener: ListenerOverrides;
  readonly identity: IdentityRequest;
  /** `-S`, `-i`: where everything goes, without a configuration. */
  readonly direct: Receiver | undefined;
  readonly registration: Registration | undefined;
  /** `-s`: an inherited listener. */
  readonly inherited: number | undefined;
  /** `-U` */
  readonly substitute: boolean;
  /** `-e`: the program to become, and its arguments. */
  readonly exec: readonly string[] | undefined;
  /** `-d`: the arguments to start this program with again. */
  readonly background: readonly string[] | undefined;
}

/** What routing needs, and what the file says beside it. */
interface Plan {
  readonly table: Table;
  readonly listeners: readonly ListenerSettings[];
  readonly identity: IdentityRequest;
  readonly workers: number;
}

/** Returns the exit code, once the server has been told to stop or cannot go on. */
export async function serve(host: Host, options: ServeOptions): Promise<number> {
  if (options.background) return goToBackground(host, options.background);
  const strict = strictMode(host);
  const inherited = inheritedFds();
  const ready = prepareReady(host);

  // TOML says where to listen and as whom, so it has to be read first. The line format says neither, and is opened
  // with the privileges that its file may ask for, but parsed without them, as the original does.
  const early = !options.direct && options.config.endsWith(".toml");
  const planned = early ? fromFile(host, options, readText(options.config)) : undefined;
  const listeners = planned?.listeners ?? [{ ...LISTENER_DEFAULTS, ...options.listener }];
  const workers = planned?.workers ?? 1;
  const sources = openSources(options, listeners, workers);
  if (options.exec) return become(host, options.exec, sources[0]!.fd, inherited, options.identity);
  const text = planned || options.direct ? "" : readText(options.config);

  const acceptors = await Acceptors.start(host, workers);
  const identity = resolveIdentity(planned?.identity ?? options.identity);
  assumeIdentity(identity, { confine: true });
  const { table } =
    planned ?? (options.direct ? direct(options.direct, options) : fromFile(host, options, text));
  mustHaveSockets(table.targets);

  for (const source of sources) {
    if (source.kind === "listener") listen(source.fd, source.backlog);
  }
  acceptors.serve({
    table,
    strict,
    listeners: listeners.map(({ name }) => name),
    sources: sources.map((source) => ({ ...source, fd: source.fd.take() })),
  });
  host.log(describe(options, listeners, table, workers));
  ready();
  return await acceptors.end({ exitWhenLost: options.direct?.kind === "fd" });
}

interface OpenSource extends Omit<Source, "fd"> {
  readonly fd: Fd;
  readonly backlog: number;
  /** Index of the acceptor that it is for. */
  readonly worker: number;
}

/** Every listener once for each worker, all in one SO_REUSEPORT group; an inherited one is shared instead. */
function openSources(
  options: ServeOptions,
  listeners: readonly ListenerSettings[],
  workers: number,
): OpenSource[] {
  const { registration, inherited } = options;
  if (registration) {
    const { fd } = registerMailbox(registration.path, registration.slot);
    return [
      { kind: "mailbox", fd, listener: 0, clearTransparent: false, shared: false, backlog: 0, worker: 0 },
    ];
  }
  const shared = inherited !== undefined && workers > 1;
  return listeners.flatMap((settings, listener) =>
    Array.from({ length: workers }, (_, worker) => {
      const { backlog, clearTransparent } = settings;
      const reusePort = settings.reusePort || workers > 1;
      const fd =
        inherited === undefined ? bindListener({ ...settings, reusePort }) : share(inherited, worker);
      return { kind: "listener", fd, listener, clearTransparent, shared, backlog, worker } as const;
    }),
  );
}

function share(inherited: number, worker: number): Fd {
  const listener = adoptListener(inherited);
  return worker === 0
    ? listener
    : Fd.from(native.sb_duplicate(listener.take()), `inherited listener ${inherited}`);
}

/** `-e`: becomes the program; the listener is bound, not listening, and blocking as a program expects it. */
function become(
  host: Host,
  [name, ...args]: readonly string[],
  listener: Fd,
  inherited: readonly number[],
  identity: IdentityRequest,
): never {
  const env = { ...childEnvironment(host.env), SKBOX_LISTEN_FD: String(listener.number) };
  const resolved = resolveIdentity(identity);
  assumeIdentity(resolved, { confine: false });
  const program = findProgram(name!, host.env.PATH);
  native.sb_set_nonblocking(listener.number, 0);
  passOn([...inherited, listener.number]);
  return exec({ program, argv: [name!, ...args], env }, startedWith(host.env.SOCKETBOX_STARTED));
}

function fromFile(host: Host, options: ServeOptions, text: string): Plan {
  const { configuration, table, warnings } = mustConfigure(options.config, text);
  for (const warning of warnings) host.log(formatDiagnostic(warning));
  const { server, listeners } = configuration;
  const { address, port } = options.listener;
  // -l or -p name the one listener that is meant; the other options hold for each of the file's.
  const named = address !== undefined || port !== undefined ? [LISTENER_DEFAULTS] : listeners;
  const { identity } = options;
  return {
    table: options.substitute ? withGroups(table) : table,
    listeners: named.map((settings) => ({ ...settings, ...options.listener })),
    identity: {
      user: identity.user ?? server.user,
      group: identity.group ?? server.group,
      groups: identity.groups ?? server.groups,
      keepGroups: identity.keepGroups,
      chroot: identity.chroot ?? server.chroot,
    },
    workers: server.workers,
  };
}

/** `-S`, `-i`: a table of one route. */
function direct(receiver: Receiver, options: ServeOptions): { table: Table } {
  const place = { file: "command line", line: 0, column: 0 };
  const any = { local: [], localPorts: [], remote: [], remotePorts: [], listeners: [] };
  const action = { kind: "target", target: targetOf(receiver) } as const;
  const { table } = compile({ tables: [{ name: "main", place, routes: [{ place, ...any, action }] }] });
  return { table: options.substitute ? withGroups(table!) : table! };
}

/** `-U`: the original's patterns in paths are filled in. */
function withGroups(table: Table): Table {
  const targets = table.targets.map((target): Target => {
    const { receiver } = target;
    if (receiver.kind !== "unix" || receiver.fill || !hasGroups(receiver.path)) return target;
    return { ...target, receiver: { ...receiver, fill: "groups" } };
  });
  return { ...table, targets };
}

/** A number that is not an inherited Unix socket would only show when the first connection is lost over it. */
function mustHaveSockets(targets: readonly Target[]): void {
  for (const { receiver } of targets) {
    if (receiver.kind !== "fd" || isUnixSocket(receiver.fd)) continue;
    throw new Failure(EXIT.refused, `descriptor ${receiver.fd} is not an inherited Unix socket`);
  }
}

function describe(
  { direct, registration, inherited }: ServeOptions,
  listeners: readonly ListenerSettings[],
  table: Table,
  workers: number,
): string {
  const where = registration
    ? `slot ${registration.slot} of ${registration.path}`
    : inherited !== undefined
      ? `inherited descriptor ${inherited}`
      : listeners.map(({ address, port }) => formatEndpoint(address, port)).join(", ");
  const what = direct ? `all to ${formatReceiver(direct)}` : `${table.targets.length} targets`;
  return `ready: ${where}; ${what}${workers > 1 ? `; ${workers} acceptors` : ""}`;
}
