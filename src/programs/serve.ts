/**
 * The server's control plane. It sets up in the order of the original (bind, open the configuration, give up
 * privileges, parse, listen), hands what it made to the acceptors, and from then on does what it is told.
 */
import { LISTENER_DEFAULTS } from "../config/configuration.ts";
import type { Fd } from "../io/fd.ts";
import { assumeIdentity, type IdentityRequest, resolveIdentity } from "../io/identity.ts";
import { boundTo } from "../io/listener.ts";
import { registerMailbox } from "../io/mailbox.ts";
import { isUnixSocket } from "../io/socket.ts";
import { exec, findProgram, inheritedFds, passOn, startedWith } from "../io/spawn.ts";
import { formatReceiver, type Target } from "../model/target.ts";
import { native } from "../native/library.ts";
import { Acceptors } from "./acceptors.ts";
import { goToBackground, prepareReady } from "./background.ts";
import { ListenerNumbers } from "./configure.ts";
import { EXIT, Failure, type Host, ownEnvironment, strictMode } from "./host.ts";
import {
  inheritListener,
  type Listener,
  nextSourceId,
  openListeners,
  planListeners,
  sourcesOf,
  type WorkerSource,
} from "./listeners.ts";
import { Lookout } from "./lookout.ts";
import { directPlan, listenersOf, type Plan, planOf, type ServeOptions } from "./plan.ts";
import { openRegistry, Registrar } from "./registry.ts";
import { reload, type Service } from "./reload.ts";
import { SourceFile } from "./source-file.ts";

/** Returns the exit code, once the server has been told to stop or cannot go on. */
export async function serve(host: Host, options: ServeOptions): Promise<number> {
  if (options.background) return goToBackground(host, options.background);
  const strict = strictMode(host);
  const inherited = inheritedFds();
  const ready = prepareReady(host);
  const numbers = new ListenerNumbers();

  // TOML says where to listen and as whom, so it has to be read first. The line format says neither, and is opened
  // with the privileges that its file may ask for, but parsed without them, as the original does.
  const early = !options.direct && options.config.endsWith(".toml");
  let file = early ? new SourceFile(options.config) : undefined;
  const planned = file && planOf(host, options, file.read(), numbers);
  const workers = (!options.exec && planned?.server.workers) || 1;
  const mailbox = openMailbox(options);
  const listeners = mailbox ? [] : bindListeners(options, planned, workers);
  const request = planned?.identity ?? options.identity;
  if (options.exec) {
    if (listeners.length > 1)
      throw new Failure(
        EXIT.usage,
        `-e passes one listener on, and ${options.config} has ${listeners.length}`,
      );
    return become(host, options.exec, listeners[0]!.fds[0]!, inherited, request, ready);
  }
  if (!options.direct) file ??= new SourceFile(options.config);
  const text = planned || !file ? "" : file.read();

  const registries = planned?.registries.map((settings) => openRegistry(settings)) ?? [];

  const acceptors = await Acceptors.start(host, workers);
  const lookout = planned ? await Lookout.start() : undefined;
  assumeIdentity(resolveIdentity(request), { confine: true });
  if (request.chroot !== undefined) file?.hide();
  const plan =
    planned ?? (options.direct ? directPlan(options.direct, options) : planOf(host, options, text, numbers));
  mustHaveSockets(plan.table.targets);

  openListeners(listeners);
  const sources = listeners.flatMap((listener) => sourcesOf(listener, workers, numbers));
  if (mailbox) sources.push(mailbox);
  acceptors.serve({ table: plan.table, strict, numbers, sources, adopted: [] });
  const registrar = lookout && new Registrar(host, lookout, (slot, fd) => acceptors.hold(slot, fd));
  registrar?.serve(registries);
  let service = Promise.resolve<Service>({ plan, listeners });
  host.onSignal("SIGHUP", () => {
    if (file)
      service = service.then((now) => reload({ host, options, numbers, acceptors, registrar }, file, now));
    else host.log("there is no configuration to reload");
  });
  host.log(describe(options, { plan, listeners }));
  ready();
  const code = await acceptors.end({ exitWhenLost: options.direct?.kind === "fd" });
  registrar?.close({ removePaths: true });
  return code;
}

/** `-P`: connections come as messages from another server. */
function openMailbox({ registration }: ServeOptions): WorkerSource | undefined {
  if (!registration) return undefined;
  const { fd } = registerMailbox(registration.path, registration.slot);
  return {
    id: nextSourceId(),
    kind: "mailbox",
    fd: fd.take(),
    listener: 0,
    clearTransparent: false,
    shared: false,
    ending: "drain",
    worker: 0,
  };
}

function bindListeners(
  options: ServeOptions,
  planned: Plan | undefined,
  workers: number,
): readonly Listener[] {
  const wanted = planned?.listeners ?? listenersOf(options, [LISTENER_DEFAULTS])!;
  const had = options.inherited === undefined ? [] : [inheritListener(options.inherited, wanted[0]!)];
  // An inherited socket is the one listener that is meant.
  return planListeners(had.length > 0 ? wanted.slice(0, 1) : wanted, had, workers).listeners;
}

/** `-e`: becomes the program; the listener is bound, not listening, and blocking as a program expects it. */
function become(
  host: Host,
  [name, ...args]: readonly string[],
  listener: Fd,
  inherited: readonly number[],
  identity: IdentityRequest,
  ready: () => void,
): never {
  const env = { ...ownEnvironment(host.env), SKBOX_LISTEN_FD: String(listener.number) };
  const resolved = resolveIdentity(identity);
  assumeIdentity(resolved, { confine: false });
  const program = findProgram(name!, host.env.PATH);
  native.sb_set_nonblocking(listener.number, 0);
  passOn([...inherited, listener.number]);
  ready(); // with -d: the program itself will not say it, and little can still go wrong
  return exec({ program, argv: [name!, ...args], env }, startedWith(host.env.SOCKETBOX_STARTED));
}

/** A number that is not an inherited Unix socket would only show when the first connection is lost over it. */
function mustHaveSockets(targets: readonly Target[]): void {
  for (const { receiver } of targets) {
    if (receiver.kind !== "fd" || isUnixSocket(receiver.fd)) continue;
    throw new Failure(EXIT.refused, `descriptor ${receiver.fd} is not an inherited Unix socket`);
  }
}

function describe({ direct, registration, inherited }: ServeOptions, { plan, listeners }: Service): string {
  const { workers } = plan.server;
  const where = registration
    ? `slot ${registration.slot} of ${registration.path}`
    : inherited !== undefined
      ? `inherited descriptor ${inherited}`
      : listeners.map(({ fds }) => boundTo(fds[0]!)).join(", ");
  const what = direct ? `all to ${formatReceiver(direct)}` : `${plan.table.targets.length} targets`;
  return `ready: ${where}; ${what}${workers > 1 ? `; ${workers} acceptors` : ""}`;
}
