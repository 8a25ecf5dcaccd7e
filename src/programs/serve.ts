/**
 * The server's control plane. It sets up in the order of the original (bind, open the configuration, give up
 * privileges, parse, listen), hands what it made to the acceptors, and from then on does what it is told.
 */
import { readFileSync } from "node:fs";
import { LISTENER_DEFAULTS } from "../config/configuration.ts";
import { Fd } from "../io/fd.ts";
import { assumeIdentity, type IdentityRequest, lookUpUser, resolveIdentity } from "../io/identity.ts";
import { boundTo } from "../io/listener.ts";
import { registerMailbox } from "../io/mailbox.ts";
import type { SignalName } from "../io/signals.ts";
import { isUnixSocket } from "../io/socket.ts";
import { exec, findProgram, inheritedFds, passOn, startedWith } from "../io/spawn.ts";
import { passedSockets } from "../io/systemd.ts";
import { adoptUnix, type BoundUnix } from "../io/unix.ts";
import { formatReceiver, type Target } from "../model/target.ts";
import { native } from "../native/library.ts";
import { Acceptors } from "./acceptors.ts";
import { goToBackground, prepareReady } from "./background.ts";
import { ListenerNumbers } from "./configure.ts";
import { type Given, givenByManager, NOTHING } from "./given.ts";
import { EXIT, Failure, type Host, ownEnvironment, strictMode } from "./host.ts";
import {
  type Binding,
  inheritListener,
  type Listener,
  type ListenerPlan,
  openListeners,
  planListeners,
  reopenListeners,
} from "./listeners.ts";
import { Lookout } from "./lookout.ts";
import { removePath } from "./paths.ts";
import { directPlan, listenersOf, type Plan, planOf, type ServeOptions } from "./plan.ts";
import { openRegistry, Registrar, type Registry } from "./registry.ts";
import { Server } from "./server.ts";
import { SourceFile } from "./source-file.ts";
import { SystemdService } from "./systemd.ts";
import { adoptedOf, bindTakeover, Predecessor, Succession } from "./takeover.ts";

/** Returns the exit code, once the server has been told to stop or cannot go on. */
export async function serve(host: Host, options: ServeOptions): Promise<number> {
  if (options.background)
    return goToBackground(host, options.background, [
      options.inherited,
      options.direct?.kind === "fd" ? options.direct.fd : undefined,
    ]);
  const strict = strictMode(host);
  const inherited = inheritedFds();
  const ready = prepareReady(host);
  const hangups = options.exec ? undefined : new EarlySignals(host, ["SIGHUP"]);
  const numbers = new ListenerNumbers();

  // TOML says where to listen and as whom, so it has to be read first. The line format says neither, and is opened
  // with the privileges that its file may ask for, but parsed without them, as the original does.
  const early = !options.direct && options.config.endsWith(".toml");
  let file = early ? new SourceFile(options.config) : undefined;
  const planned = file && planOf(host, options, file.read(), numbers);
  const request = planned?.identity ?? options.identity;
  warnOfIdle(host, options, planned, numbers);
  if (options.exec) return become(host, options.exec, options, planned, inherited, ready);

  // Before anything is bound: a name that nobody has changes nothing.
  const identity = resolveIdentity(request);
  const workers = planned?.server.workers ?? 1;
  const service = new SystemdService(host);
  using predecessor = findPredecessor(options, request);
  const found = predecessor?.listeners();
  const given: Given = found ?? givenToUs(host, options, planned);
  const mailbox = openMailbox(options, found?.mailbox);
  const binding: Binding = { workers, ending: service.isManaged ? "drain" : "refuse" };
  const { listeners, removed } = mailbox ? NO_LISTENERS : bindListeners(options, planned, given, binding);
  warnOfReusePort(host, listeners);
  if (!options.direct) file ??= new SourceFile(options.config);
  const text = planned || !file ? "" : file.read();
  // From here on there are paths to take away again, whatever ends us.
  const stops = new EarlySignals(host, ["SIGTERM", "SIGINT"]);
  using made = new DisposableStack();
  const registries = openRegistries(host, planned, given, made);
  const takeover =
    options.takeover === undefined ? undefined : openTakeover(host, options.takeover, found?.takeover, made);

  const acceptors = await Acceptors.start(host, workers);
  const lookout = planned || takeover ? await Lookout.start() : undefined;
  if (stops.came) {
    host.log("stopped before it was ready"); // and whoever runs already goes on
    return EXIT.ok;
  }
  assumeIdentity(identity, { confine: true });
  if (request.chroot !== undefined) file?.hide();
  const plan =
    planned ?? (options.direct ? directPlan(options.direct, options) : planOf(host, options, text, numbers));
  mustHaveSockets(plan.table.targets);

  openListeners(listeners);
  const registrar =
    lookout &&
    new Registrar(host, lookout, (slot, path, fd) => {
      acceptors.hold(slot, fd);
      service.keepSlot(slot, path, fd);
    });
  const server = new Server({
    host,
    options,
    numbers,
    acceptors,
    registrar,
    binding,
    service,
    file,
    mailbox,
    state: { plan, listeners },
  });
  // From here on the one before us takes nothing more in.
  const rest = predecessor?.rest();
  // And it goes before anything is delivered: were we to die in between, what we delivered would come from it again,
  // and two daemons would serve one client.
  predecessor?.leave();
  if (predecessor) reopenListeners(listeners);
  if (predecessor?.died)
    host.log(
      "the server that we take over from has ended: what it neither handed over nor delivered is lost",
    );
  const sources = server.sources([...listeners, ...removed]);
  acceptors.serve({
    table: plan.table,
    strict,
    numbers,
    sources,
    adopted: adoptedOf(rest?.waiting ?? [], numbers),
  });
  registrar?.serve(registries);
  for (const registered of rest?.registered ?? given.registered) registrar?.adopt(registered);
  if (removed.length > 0) server.retire(removed);
  if (takeover && lookout) new Succession(host, lookout, takeover, server);
  const status = describe(options, plan, listeners);
  server.begin(status);
  made.move(); // the end of the server takes them away
  host.log(`ready: ${status}`);
  ready();
  const end = server.end();
  hangups?.handle(() => server.hangUp());
  stops.handle(() => acceptors.stop(EXIT.ok));
  const code = await end;
  if (takeover && !server.shared) removePath(host, takeover);
  return code;
}

/** Signals that come before there is anything to do about them: they are remembered. */
class EarlySignals {
  #came = 0;
  #handle = () => {
    this.#came++;
  };

  constructor(host: Host, names: readonly SignalName[]) {
    for (const name of names) host.onSignal(name, () => this.#handle());
  }

  get came(): boolean {
    return this.#came > 0;
  }

  handle(handle: () => void): void {
    this.#handle = handle;
    for (; this.#came > 0; this.#came--) handle();
  }
}

function findPredecessor({ takeover }: ServeOptions, { user }: IdentityRequest): Predecessor | undefined {
  if (takeover === undefined) return undefined;
  // It listens there as whom it runs, or, where that was root, may still say so.
  const uids = [0, process.geteuid!(), ...(user === undefined ? [] : [lookUpUser(user).uid])];
  return Predecessor.find(takeover, uids);
}

function openTakeover(host: Host, path: string, bound: Fd | undefined, made: DisposableStack): BoundUnix {
  if (bound) return adoptUnix(path, bound);
  return made.adopt(bindTakeover(path), (takeover) => removePath(host, takeover));
}

/** Options that leave others without effect do so as in the original, but not in silence. */
function warnOfIdle(
  host: Host,
  options: ServeOptions,
  planned: Plan | undefined,
  numbers: ListenerNumbers,
): void {
  const { registration, inherited, listener } = options;
  for (const idle of options.idle) host.log(`${idle.by} leaves ${idle.options.join(", ")} without effect`);
  const named = listener.address !== undefined || listener.port !== undefined;
  const routes = planned?.draft.tables.flatMap((table) => table.routes) ?? [];
  const isReplaced = (listener: number) => numbers.name(listener) !== LISTENER_DEFAULTS.name;
  if (named && routes.some(({ listeners }) => listeners.length > 0 && listeners.every(isReplaced)))
    host.log(
      "-l and -p replace every listener of the configuration: routes that name one of them fit nothing",
    );
  if (!registration && inherited === undefined) return;
  // The first listener of a file is what an inherited socket is called, and how it is treated.
  const idle = named ? [] : (planned?.listeners ?? []).slice(registration ? 0 : 1);
  if (idle.length === 0) return;
  const names = idle.map(({ name }) => name).join(", ");
  const outranking = registration ? "-P" : "-s";
  host.log(`${outranking} outranks the configuration: listeners without a socket: ${names}`);
}

/** Where nobody runs whom we could take over from. */
function givenToUs(host: Host, options: ServeOptions, planned: Plan | undefined): Given {
  const wanted = planned?.listeners ?? listenersOf(options, undefined) ?? [];
  if (options.inherited === undefined) return givenByManager(passedSockets(host.env), wanted);
  const settings = wanted[0] ?? listenersOf(options, [LISTENER_DEFAULTS])![0]!;
  return { ...NOTHING, listeners: [inheritListener(options.inherited, settings)] };
}

/** `-P`: connections come as messages from another server. */
function openMailbox({ registration }: ServeOptions, given: Fd | undefined): Fd | undefined {
  if (!registration) return undefined;
  if (given) return given;
  return new Fd(registerMailbox(registration.path, registration.slot).fd.take());
}

const NO_LISTENERS: ListenerPlan = { listeners: [], added: [], removed: [] };

function bindListeners(
  options: ServeOptions,
  planned: Plan | undefined,
  given: Given,
  binding: Binding,
): ListenerPlan {
  const passed = given.listeners.map(({ settings }) => settings);
  // Whoever passes sockets says where to listen, unless the file or the command line does.
  const wanted =
    planned?.listeners ??
    listenersOf(options, passed.length > 0 && options.inherited === undefined ? passed : undefined) ??
    listenersOf(options, [LISTENER_DEFAULTS])!;
  // An inherited socket is the one listener that is meant.
  const meant = options.inherited === undefined ? wanted : wanted.slice(0, 1);
  const result = planListeners(meant, given.listeners, binding);
  const useless = result.removed.find((listener) => listener.meant === "name");
  if (!useless) return result;
  const names = meant.map(({ name }) => name).join(", ");
  throw new Failure(
    EXIT.refused,
    `a socket was passed by the name ${useless.settings.name}; expected one of the listeners' names: ${names}`,
  );
}

/** Our own leaving empties the backlog first, but others may be less careful, or not get the time. */
function warnOfReusePort(host: Host, listeners: readonly Listener[]): void {
  const shared = listeners.filter(({ settings }) => settings.reusePort).map(({ settings }) => settings.name);
  if (shared.length === 0 || migratesRequests()) return;
  host.log(
    `listener ${shared.join(", ")} shares its port: when one of those who share it leaves, connections in its ` +
      "backlog may be reset, because net.ipv4.tcp_migrate_req is not 1",
  );
}

function migratesRequests(): boolean {
  try {
    return readFileSync("/proc/sys/net/ipv4/tcp_migrate_req", "utf8").trim() === "1";
  } catch {
    return false; // kernels before 5.14 have no such setting
  }
}

function openRegistries(
  host: Host,
  planned: Plan | undefined,
  given: Given,
  made: DisposableStack,
): Registry[] {
  const left = new Map(given.registries);
  const registries = planned?.registries.map((settings) => {
    const { path } = settings;
    const fd = left.get(path);
    left.delete(path);
    if (fd) return openRegistry(settings, adoptUnix(path, fd));
    return made.adopt(openRegistry(settings), ({ socket }) => removePath(host, socket));
  });
  for (const [path, fd] of left) {
    host.log(`the registry at ${path} is no longer wanted`);
    fd.close();
  }
  return registries ?? [];
}

/** `-e`: becomes the program; the listener is bound, not listening, and blocking as a program expects it. */
function become(
  host: Host,
  [name, ...args]: readonly string[],
  options: ServeOptions,
  planned: Plan | undefined,
  inherited: readonly number[],
  ready: () => void,
): never {
  const several = planned?.listeners?.length ?? 1;
  if (several > 1 && options.inherited === undefined)
    throw new Failure(EXIT.usage, `-e passes one listener on, and ${options.config} has ${several}`);
  const resolved = resolveIdentity(planned?.identity ?? options.identity);
  const started = startedWith(host.env.SOCKETBOX_STARTED); // it asks /proc, which a chroot may take away
  const given = options.inherited === undefined ? NOTHING : givenToUs(host, options, planned);
  const { listeners } = bindListeners(options, planned, given, { workers: 1, ending: "refuse" });
  const listener = listeners[0]!.fds[0]!;
  const env = { ...ownEnvironment(host.env), SKBOX_LISTEN_FD: String(listener.number) };
  assumeIdentity(resolved, { confine: false });
  const program = findProgram(name!, host.env.PATH);
  native.sb_set_nonblocking(listener.number, 0);
  passOn([...inherited, listener.number]);
  ready(); // with -d: the program itself will not say it, and little can still go wrong
  return exec({ program, argv: [name!, ...args], env }, started);
}

/** A number that is not an inherited Unix socket would only show when the first connection is lost over it. */
function mustHaveSockets(targets: readonly Target[]): void {
  for (const receiver of targets.flatMap(({ receivers }) => receivers)) {
    if (receiver.kind !== "fd" || isUnixSocket(receiver.fd)) continue;
    throw new Failure(EXIT.refused, `descriptor ${receiver.fd} is not an inherited Unix socket`);
  }
}

function describe(
  { direct, registration, inherited }: ServeOptions,
  { server, table }: Plan,
  listeners: readonly Listener[],
): string {
  const where = registration
    ? `slot ${registration.slot} of ${registration.path}`
    : inherited !== undefined
      ? `inherited descriptor ${inherited}`
      : listeners.map(({ fds }) => boundTo(fds[0]!)).join(", ");
  const what = direct ? `all to ${formatReceiver(direct)}` : `${table.targets.length} targets`;
  return `${where}; ${what}${server.workers > 1 ? `; ${server.workers} acceptors` : ""}`;
}
