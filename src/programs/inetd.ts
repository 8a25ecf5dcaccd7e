/**
 * `socketbox-inetd`: for each received connection, a program with the connection as its standard input and output.
 * One thread, one loop; nothing is taken from the mailbox that could not be started.
 */
import { BATCH } from "../io/deliver.ts";
import { assumeIdentity, type IdentityRequest, lookUpUser, resolveIdentity } from "../io/identity.ts";
import { LimitedLog } from "../io/limited-log.ts";
import { ANYBODY, adoptMailbox, bindMailbox, type Mailbox, receive, registerMailbox } from "../io/mailbox.ts";
import { EVENT, Reactor, type Timer, type Watch } from "../io/reactor.ts";
import { CaughtSignals, type SignalName, signalMask } from "../io/signals.ts";
import {
  type Child,
  findProgram,
  formatEnding,
  inheritedFds,
  reap,
  type StartedWith,
  spawn,
  startedWith,
  withhold,
} from "../io/spawn.ts";
import { Manager, passedSockets } from "../io/systemd.ts";
import { formatPlain } from "../model/address.ts";
import { type Flow, formatFlow } from "../model/flow.ts";
import { ERRNO, errnoName, SysError } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS, flowOf } from "../routing/record.ts";
import type { StrictMode } from "../wire/handoff.ts";
import { childEnvironment, EXIT, Failure, type Host, strictMode } from "./host.ts";
import { type PerSource, type Rate, RateWindow, SourceCounts } from "./limits.ts";
import { removePath } from "./paths.ts";

export interface InetdOptions {
  /** Where connections come from: a path to bind, or a slot of the server there. */
  readonly path: string;
  readonly slot: number | undefined;
  /** Name or number of the user whose messages alone are taken. */
  readonly fromUser: string | undefined;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly identity: IdentityRequest;
  readonly noNewPrivs: boolean;
  /** The most children at a time. */
  readonly max: number;
  readonly perSource: PerSource | undefined;
  readonly rate: Rate | undefined;
  /** After SIGTERM, how long to wait for children; 0: leave them alone. */
  readonly drainMs: number;
}

/** How long to wait before trying again what failed for want of descriptors, processes or memory. */
const RETRY_MS = 100;

/** What starting a program takes: a pidfd here, and in the child the two that become 0 and 1. */
const SPARE_FDS = 3;

/** Errors of starting a program that pass; any other is the program's own and would come again at once. */
const PASSING: ReadonlySet<number> = new Set([ERRNO.EAGAIN, ERRNO.ENOMEM, ERRNO.EMFILE, ERRNO.ENFILE]);

/** Why a message brought no connection, by the error that sb_receive_fds gives it. */
export const DROPPED: ReadonlyMap<number, string> = new Map([
  [ERRNO.EBADMSG, "there is no socket in it"],
  [ERRNO.EACCES, "it does not come from whom --from-uid names"],
  [ERRNO.EPROTOTYPE, "what is in it is not a connection"],
  [ERRNO.EMFILE, "no descriptor was free for what was in it"],
]);

export function inetd(host: Host, options: InetdOptions): number {
  const strict = strictMode(host);
  const started = startedWith(host.env.SOCKETBOX_STARTED);
  const { path, slot } = options;
  withhold(inheritedFds());
  using resources = new DisposableStack();
  const catchSignals = () => resources.use(new CaughtSignals(stopSignals(started)));
  // Before there is a path, so that none is left behind; but a server that does not answer can be interrupted.
  const early = slot === undefined ? catchSignals() : undefined;
  using mailbox = openMailbox(host, options);
  const signals = early ?? catchSignals();
  const manager = Manager.connect(host.env, host.log);
  assumeIdentity(resolveIdentity(options.identity), { confine: false });
  const program = findProgram(options.command[0]!, host.env.PATH);
  using server = new Inetd(host, options, mailbox, program, strict, started);
  const code = server.run(signals, () => {
    host.log(`ready: ${slot === undefined ? path : `slot ${slot} of ${path}`} to ${program}`);
    manager?.say("READY=1");
  });
  manager?.say("STOPPING=1");
  return code;
}

/** What tells us to stop; nohup(1) has SIGHUP ignored, and so it stays. */
function stopSignals({ ignored }: StartedWith): SignalName[] {
  return ignored & signalMask(["SIGHUP"]) ? ["SIGTERM", "SIGINT"] : ["SIGTERM", "SIGINT", "SIGHUP"];
}

/** Bound, registered, or, where a service manager keeps the socket, taken from it. */
function openMailbox(host: Host, { path, slot, fromUser }: InetdOptions): Mailbox {
  const fromUid = fromUser === undefined ? ANYBODY : lookUpUser(fromUser).uid;
  if (slot !== undefined) return registerMailbox(path, slot, fromUid);
  const passed = passedSockets(host.env);
  if (passed.length === 0) return bindMailbox(path, fromUid);
  const adopted = adoptMailbox(passed, path, fromUid);
  if (adopted) return adopted;
  throw new Failure(
    EXIT.refused,
    `none of the ${passed.length} sockets that were passed is bound at ${path}`,
  );
}

interface Running {
  readonly child: Child;
  readonly flow: Flow;
  readonly since: number;
  readonly source: string | undefined;
}

interface Received {
  readonly fd: number;
  readonly flow: Flow;
}

class Inetd implements Disposable {
  readonly #reactor = new Reactor();
  readonly #limited = new LimitedLog(
    (line) => this.host.log(line),
    (ms, run) => void this.#reactor.after(ms, run),
  );
  readonly #flows = new Uint32Array(BATCH * FLOW_WORDS);
  readonly #running = new Set<Running>();
  /** Received, and not started yet because the system had no room for one more process. */
  readonly #held: Received[] = [];
  readonly #sources: SourceCounts | undefined;
  readonly #rate: RateWindow | undefined;
  readonly #environment: Record<string, string | undefined>;
  #watch: Watch | undefined;
  #timer: Timer | undefined;
  /** What was last logged as the reason of a pause; a flood of equal lines says nothing. */
  #pausedFor = "";
  #stopping = false;
  /** The mailbox is empty, and stays so. */
  #done = false;
  /** That children are waited for has been said. */
  #draining = false;
  #code: number = EXIT.ok;

  constructor(
    readonly host: Host,
    readonly options: InetdOptions,
    readonly mailbox: Mailbox,
    readonly program: string,
    readonly strict: StrictMode,
    readonly started: StartedWith,
  ) {
    this.#sources = options.perSource && new SourceCounts(options.perSource);
    this.#rate = options.rate && new RateWindow(options.rate);
    this.#environment = childEnvironment(host.env);
  }

  /** `announce` says that we are ready. Returns the exit code. */
  run(signals: CaughtSignals, announce: () => void): number {
    const stop = () => this.#stop();
    signals.handle(this.#reactor, { SIGTERM: stop, SIGINT: stop, SIGHUP: stop });
    announce();
    this.#resume();
    this.#reactor.run();
    for (const { fd, flow } of this.#held) this.#refuse(fd, flow, "shutdown");
    this.#limited.flush();
    return this.#code;
  }

  [Symbol.dispose](): void {
    for (const { child } of this.#running) child.pidfd.close();
    this.#reactor[Symbol.dispose]();
  }

  /** Takes one connection: were we killed, what was taken and not started would be lost. The next follows at once. */
  #take(): void {
    if (this.#room() <= 0) {
      this.#pause(this.#limitReached());
      return;
    }
    const count = this.#receive(1);
    if (count < 0) this.#cannotReceive(-count);
    this.#hold(count);
    this.#startHeld();
  }

  /** Keeps some descriptors free meanwhile: without them, nothing of what has been received could be started. */
  #receive(max: number): number {
    const spares: number[] = [];
    try {
      while (spares.length < SPARE_FDS) {
        const spare = native.sb_duplicate(this.mailbox.fd.number);
        if (spare < 0) return spare;
        spares.push(spare);
      }
      return receive(this.mailbox, this.#flows, max, this.strict);
    } finally {
      for (const spare of spares) native.sb_close(spare);
    }
  }

  #hold(count: number): void {
    for (let at = 0; at < count * FLOW_WORDS; at += FLOW_WORDS) {
      const fd = this.#flows[at + FLOW_FD_WORD]! | 0;
      if (fd < 0) this.#limited.say(`dropped a message: ${DROPPED.get(-fd) ?? errnoName(-fd)}`);
      else this.#held.push({ fd, flow: flowOf(this.#flows, at, 0) });
    }
  }

  #startHeld(): void {
    for (let next = this.#held[0]; next; next = this.#held[0]) {
      if (this.#roomToStart() <= 0) {
        // Only what was taken when we were told to stop can be more than may run.
        this.#pause(this.#limitReached());
        return;
      }
      if (!this.#start(next)) return;
      this.#held.shift();
    }
  }

  /** Whether the connection is done with: started, refused or given up. False: it has to be tried again. */
  #start({ fd, flow }: Received): boolean {
    const source = this.#sources?.admit(flow.remote);
    if (this.#sources && source === undefined) {
      this.#refuse(fd, flow, "limit (--per-source)");
      return true;
    }
    try {
      const since = performance.now();
      const child = spawn(this.#command(fd, flow), this.started);
      native.sb_close(fd);
      this.#adopt({ child, flow, since, source });
      return true;
    } catch (error) {
      if (source !== undefined) this.#sources!.release(source);
      if (!(error instanceof SysError)) throw error;
      if (!PASSING.has(error.errno)) {
        this.#refuse(fd, flow, error.message);
        return true;
      }
      this.#pause(error.message, RETRY_MS);
      return false;
    }
  }

  #command(fd: number, flow: Flow) {
    return {
      program: this.program,
      argv: this.options.command,
      env: { ...this.#environment, ...connectionEnvironment(flow) },
      stdin: fd,
      stdout: fd,
      newSession: true,
      noNewPrivs: this.options.noNewPrivs,
    };
  }

  #adopt(running: Running): void {
    const { child, flow } = running;
    this.#running.add(running);
    this.#rate?.note(performance.now()); // not before: no window may have more starts than it says
    this.host.log(`start ${child.pid}: ${formatFlow(flow)} (${this.#running.size} running)`);
    const watch = this.#reactor.watch(child.pidfd.number, EVENT.in, () => {
      const ending = reap(child);
      if (!ending) return;
      watch.cancel();
      child.pidfd.close();
      this.#running.delete(running);
      if (running.source !== undefined) this.#sources!.release(running.source);
      const seconds = ((performance.now() - running.since) / 1000).toFixed(3);
      this.host.log(
        `end ${child.pid}: ${formatEnding(ending)} after ${seconds} s (${this.#running.size} running)`,
      );
      this.#resume();
    });
  }

  #refuse(fd: number, flow: Flow, reason: string): void {
    native.sb_close(fd);
    this.#limited.say(
      `connection given up: ${reason}`,
      `connection given up: ${reason}: ${formatFlow(flow)}`,
    );
  }

  /** How many connections may be taken. */
  #room(): number {
    return this.#roomToStart() - this.#held.length;
  }

  #roomToStart(): number {
    const children = this.options.max - this.#running.size;
    return Math.min(children, this.#rate?.room(performance.now()) ?? children);
  }

  #limitReached(): string {
    return this.#running.size >= this.options.max
      ? `limit of ${this.options.max} reached (--max)`
      : "limit (--rate)";
  }

  #cannotReceive(errno: number): void {
    if (
      errno === ERRNO.EMFILE ||
      errno === ERRNO.ENFILE ||
      errno === ERRNO.ENOMEM ||
      errno === ERRNO.ENOBUFS
    ) {
      this.#pause(errnoName(errno), RETRY_MS);
      return;
    }
    // Of a mailbox that was shut down, the end is all that can be left.
    if (!this.#stopping) {
      this.host.log(errno === ERRNO.ENODATA ? "the server has gone" : `receive: ${errnoName(errno)}`);
      this.#code = EXIT.peerGone;
    }
    this.#done = true;
    this.#finish();
  }

  /** Takes nothing more until a child has ended, the rate allows it, or `retryMs` have passed. */
  #pause(reason: string, retryMs?: number): void {
    if (this.#pausedFor !== reason) this.host.log(`pausing: ${reason}; connections wait`);
    this.#pausedFor = reason;
    this.#watch?.cancel();
    this.#watch = undefined;
    const delay = retryMs ?? this.#rate?.delay(performance.now()) ?? 0;
    if (delay > 0 && !this.#timer) {
      this.#timer = this.#reactor.after(delay, () => {
        this.#timer = undefined;
        this.#resume();
      });
    }
  }

  #resume(): void {
    if (this.#stopping && !this.#done) this.#takeRest();
    this.#startHeld();
    if (this.#done) this.#finish();
    else if (this.#held.length === 0 && this.#room() <= 0) this.#pause(this.#limitReached());
    else if (this.#held.length === 0 && !this.#stopping) {
      this.#pausedFor = "";
      this.#watch ??= this.#reactor.watch(this.mailbox.fd.number, EVENT.in, () => this.#take());
    }
  }

  /** Whoever sends from now on is told that nobody is here; what was sent before is still served. */
  #stop(): void {
    if (this.#stopping) {
      this.#reactor.stop();
      return;
    }
    this.#stopping = true;
    this.#done = this.mailbox.kept;
    this.host.log(`stopping: ${this.#done ? "what has come is for the next one" : "taking what has come"}`);
    removePath(this.host, { path: this.options.path, remove: this.mailbox.remove });
    this.mailbox.refuse();
    this.#watch?.cancel();
    this.#watch = undefined;
    if (this.options.drainMs > 0) this.#reactor.after(this.options.drainMs, () => this.#reactor.stop());
    this.#resume();
  }

  /** All that is left in the mailbox, also beyond the limits: only so it shows that nothing more will come. */
  #takeRest(): void {
    for (let count = BATCH; count > 0; ) {
      count = this.#receive(BATCH);
      if (count < 0) this.#cannotReceive(-count);
      if (count === 0) this.#done = true;
      this.#hold(count);
    }
  }

  /** Nothing will come any more: ends when nothing waits to be started, and no child is waited for. */
  #finish(): void {
    this.#watch?.cancel();
    this.#watch = undefined;
    const drains = this.#stopping && this.options.drainMs > 0;
    if (this.#held.length === 0 && (!drains || this.#running.size === 0)) this.#reactor.stop();
    else if (drains && this.#running.size > 0 && !this.#draining) {
      this.#draining = true;
      this.host.log(`waiting for ${this.#running.size} children`);
    }
  }
}

/**
 * What a program finds in its environment about the connection: after the habits of tcpserver(1), of systemd
 * (systemd.socket(5), Accept=yes), and of CGI (RFC 3875). IPv4 addresses are written plainly.
 */
function connectionEnvironment(flow: Flow): Record<string, string | undefined> {
  // A Unix stream has no addresses; one that stands in our own environment would be somebody else's.
  if (flow.localPort === 0) return { ...NO_ADDRESSES, PROTO: "UNIX" };
  const [local, remote] = [formatPlain(flow.local), formatPlain(flow.remote)];
  const [localPort, remotePort] = [String(flow.localPort), String(flow.remotePort)];
  return {
    PROTO: "TCP",
    TCPLOCALIP: local,
    TCPLOCALPORT: localPort,
    TCPREMOTEIP: remote,
    TCPREMOTEPORT: remotePort,
    REMOTE_ADDR: remote,
    REMOTE_PORT: remotePort,
    SERVER_ADDR: local,
    SERVER_PORT: localPort,
  };
}

const NO_ADDRESSES = {
  TCPLOCALIP: undefined,
  TCPLOCALPORT: undefined,
  TCPREMOTEIP: undefined,
  TCPREMOTEPORT: undefined,
  REMOTE_ADDR: undefined,
  REMOTE_PORT: undefined,
  SERVER_ADDR: undefined,
  SERVER_PORT: undefined,
};
