/**
 * `socketbox-relay`: each received connection goes on to a server that cannot take sockets. One thread, one loop; the
 * bytes themselves are moved by the kernel.
 */
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import type { RelaySettings } from "../config/relay.ts";
import { readRelays } from "../config/relay-toml.ts";
import { interfaceIndex, openNetns } from "../io/connect.ts";
import type { Fd } from "../io/fd.ts";
import { assumeIdentity, type IdentityRequest, lookUpUser, resolveIdentity } from "../io/identity.ts";
import { ANYBODY } from "../io/mailbox.ts";
import { Names } from "../io/names.ts";
import { Reactor } from "../io/reactor.ts";
import { Relays } from "../io/relays.ts";
import { CaughtSignals } from "../io/signals.ts";
import { Manager, type PassedSocket, passedSockets } from "../io/systemd.ts";
import { formatDiagnostic } from "../model/diagnostic.ts";
import { formatUpstream } from "../model/upstream.ts";
import { errnoName, SysError } from "../native/errno.ts";
import { native } from "../native/library.ts";
import type { StrictMode } from "../wire/handoff.ts";
import { readText } from "./configure.ts";
import { EXIT, Failure, type Host, strictMode } from "./host.ts";
import { type Inlet, inletKey, openInlet } from "./relay/inlet.ts";
import { type LogForm, RelayLog } from "./relay/log.ts";
import { Service, type Shared } from "./relay/service.ts";
import { Tally } from "./relay/tally.ts";

export interface RelayOptions {
  /** One relay as the command line describes it, or the file that describes all. */
  readonly relays: RelaySettings | { readonly file: string };
  /** Name or number of the user whose messages alone are taken. */
  readonly fromUser: string | undefined;
  readonly identity: IdentityRequest;
  readonly log: LogForm;
  /** After SIGTERM, how long connections may go on. */
  readonly drainMs: number;
}

/** For what is open for a moment only: further addresses of a name, files read again. */
const DESCRIPTORS_SPARE = 8;
/** After this long without want of anything, the pause for it is over. */
const CALM_MS = 1000;

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"] as const;

/** Returns the exit code, once it has been told to stop or nothing can come any more. */
export function relay(host: Host, options: RelayOptions): number {
  const strict = strictMode(host);
  const relays = "file" in options.relays ? mustRead(host, options.relays.file) : [options.relays];
  using resources = new DisposableStack();
  const catchSignals = () => resources.use(new CaughtSignals(SIGNALS));
  // Before there is a path, so that none is left behind; but a server that does not answer can be interrupted.
  const early = relays.some(({ from }) => from.kind === "slot") ? undefined : catchSignals();
  using process = new RelayProcess(host, options, strict);
  process.open(relays);
  const signals = early ?? catchSignals();
  const transparent = relays.some(({ source }) => source === "client");
  const manager = Manager.connect(host.env, host.log);
  assumeIdentity(resolveIdentity(options.identity), { confine: true, keepNetAdmin: transparent });
  const code = process.run(signals, () => {
    host.log(`ready: ${relays.map(describe).join("; ")}`);
    manager?.say("READY=1");
  });
  manager?.say("STOPPING=1");
  return code;
}

function describe({ name, from, to }: RelaySettings): string {
  const key = inletKey(from);
  return `${name === key ? "" : `${name}: `}${key} to ${to.map(formatUpstream).join(", ")}`;
}

/** Throws a Failure with every error. */
function mustRead(host: Host, file: string): readonly RelaySettings[] {
  const { configuration, diagnostics } = readRelays(file, readText(file), interfaceIndex);
  if (!configuration) {
    const lines = ["the configuration is refused", ...diagnostics.map(formatDiagnostic)];
    throw new Failure(EXIT.refused, lines.join("\n"));
  }
  for (const warning of diagnostics) host.log(formatDiagnostic(warning));
  return configuration.relays;
}

class RelayProcess implements Shared, Disposable {
  readonly reactor = new Reactor();
  readonly names = new Names(this.reactor);
  readonly relays = new Relays(this.reactor, () => this.capacity());
  readonly lines: RelayLog;
  readonly #host: Host;
  readonly #options: RelayOptions;
  readonly #strict: StrictMode;
  /** Sockets that a service manager keeps for us. */
  readonly #passed: readonly PassedSocket[];
  /** Whose messages are taken; looked up before a chroot hides who is who. */
  readonly #fromUid: number;
  /** Those that take connections. */
  #services: Service[] = [];
  /** Those whose settings have been replaced, for as long as they have connections. */
  readonly #retired = new Set<Service>();
  /** Those of `#services` that have come to their end. */
  readonly #ended = new WeakSet<Service>();
  #inlets: ReadonlyMap<string, Inlet> = new Map();
  /** By inlet. */
  readonly #tallies = new Map<string, Tally>();
  /** The most that may be open, and what was before the first connection. */
  readonly #descriptorsMax = native.sb_raise_nofile();
  #descriptorsBefore = 0;
  readonly #idPrefix = randomBytes(6).toString("hex");
  #ids = 0;
  #shortAt = 0;
  #short = false;
  /** A connection has ended, so that there may be room for another. */
  #room = false;
  #stopping = false;
  #done = false;
  #code: number = EXIT.ok;

  constructor(host: Host, options: RelayOptions, strict: StrictMode) {
    this.#host = host;
    this.#options = options;
    this.#strict = strict;
    this.#passed = passedSockets(host.env);
    this.#fromUid = options.fromUser === undefined ? ANYBODY : lookUpUser(options.fromUser).uid;
    this.lines = new RelayLog(options.log, (text) => host.raw(text));
  }

  /** Opens what `relays` need and is not open yet, and puts them in the place of those there were. */
  open(relays: readonly RelaySettings[]): void {
    const opened: Inlet[] = [];
    const sockets: (Fd | undefined)[] = [];
    const inlets = new Map<string, Inlet>();
    try {
      for (const { from, netns } of relays) {
        const key = inletKey(from);
        const found = this.#inlets.get(key);
        const known = found?.fd.open ? found : undefined;
        const inlet = known ?? openInlet(from, this.#strict, this.#passed, this.#fromUid);
        if (!known) opened.push(inlet);
        inlets.set(key, inlet);
        sockets.push(netns === undefined ? undefined : openNetns(netns));
      }
    } catch (error) {
      for (const inlet of opened) inlet[Symbol.dispose]();
      for (const fd of sockets) fd?.close();
      throw error;
    }
    this.#replace(relays, inlets, sockets);
  }

  /** `announce` says that we are ready: not before a signal has its effect. Returns the exit code. */
  run(signals: CaughtSignals, announce: () => void): number {
    signals.handle(this.reactor, {
      SIGTERM: () => this.#stop(),
      SIGINT: () => this.#stop(),
      SIGHUP: () => this.#reload(),
      SIGUSR1: () => this.#tellTotals(),
    });
    announce();
    this.#descriptorsBefore = readdirSync("/proc/self/fd").length;
    for (const service of this.#services) service.resume();
    while (!this.#done) {
      this.reactor.turn();
      if (this.#room) this.#resume();
      this.lines.flush();
    }
    for (const service of this.#all) service.end("shutdown");
    this.lines.flush();
    this.#tellTotals();
    return this.#code;
  }

  [Symbol.dispose](): void {
    for (const inlet of this.#inlets.values()) inlet[Symbol.dispose]();
    this.relays[Symbol.dispose]();
    this.names[Symbol.dispose]();
    this.reactor[Symbol.dispose]();
  }

  log(line: string): void {
    this.#host.log(line);
  }

  uniqueId(): Uint8Array {
    return Buffer.from(`${this.#idPrefix}-${(this.#ids++).toString(16)}`);
  }

  capacity(): number {
    return Math.max(0, this.#descriptors >> 1);
  }

  shortage(errno: number): void {
    if (!this.#short) this.#host.log(`pausing: ${errnoName(errno)}; connections wait`);
    this.#short = true;
    this.#shortAt = performance.now();
    for (const service of this.#all) service.pause();
  }

  room(): void {
    this.#room = true;
  }

  finished(service: Service): void {
    if (service.peerGone) this.#code = EXIT.peerGone;
    if (!this.#retired.delete(service)) this.#ended.add(service);
    // The last that is heard of an inlet which the file has no more.
    else if (!this.#all.some(({ tally }) => tally === service.tally)) this.log(service.totals);
    this.#done ||= this.#retired.size === 0 && this.#services.every((one) => this.#ended.has(one));
  }

  get #all(): readonly Service[] {
    return this.#retired.size === 0 ? this.#services : [...this.#services, ...this.#retired];
  }

  /**
   * Descriptors that are still free. Each connection is counted with both its sockets from the start: one that was
   * taken with the last descriptor would hold it and wait for another, and so would all those beside it.
   */
  get #descriptors(): number {
    let connections = 0;
    for (const service of this.#all) connections += service.running;
    const used = this.#descriptorsBefore + DESCRIPTORS_SPARE + 2 * (connections + this.relays.pipesOpen);
    return this.#descriptorsMax - used;
  }

  #replace(
    relays: readonly RelaySettings[],
    inlets: ReadonlyMap<string, Inlet>,
    sockets: readonly (Fd | undefined)[],
  ): void {
    const before = this.#services;
    const kept = new Set(inlets.values());
    this.#inlets = inlets;
    this.#services = relays.map((settings, index) => {
      const key = inletKey(settings.from);
      const tally = this.#tallies.get(key) ?? new Tally();
      this.#tallies.set(key, tally);
      return new Service(this, settings, inlets.get(key)!, tally, sockets[index]);
    });
    for (const service of before) {
      if (this.#ended.has(service)) continue;
      this.#retired.add(service);
      // What has come to an inlet that the file has no more is taken; nobody else would.
      if (kept.has(service.inlet)) service.retire();
      else service.stop();
    }
  }

  /** After a turn, in which services may have been about to begin what they have taken. */
  #resume(): void {
    this.#room = false;
    if (this.#short && performance.now() - this.#shortAt > CALM_MS) {
      this.#short = false;
      this.#host.log("taking connections goes on");
    }
    for (const service of this.#all) service.resume();
  }

  #reload(): void {
    const { relays } = this.#options;
    if (this.#stopping) return;
    if (!("file" in relays)) {
      this.#host.log("there is nothing to reload: no file was given (--config)");
      return;
    }
    try {
      this.open(mustRead(this.#host, relays.file));
    } catch (error) {
      if (!(error instanceof Failure || error instanceof SysError)) throw error;
      this.#host.log(`reload refused, all stays as it was: ${error.message}`);
      return;
    }
    for (const service of this.#services) service.resume();
    this.#host.log(`reloaded: ${this.#services.map(({ settings }) => describe(settings)).join("; ")}`);
  }

  /** The first time lets connections go on for a while, the second does not. */
  #stop(): void {
    if (this.#stopping) {
      this.#done = true;
      return;
    }
    this.#stopping = true;
    this.reactor.after(this.#options.drainMs, () => {
      this.#done = true;
    });
    for (const service of [...this.#services]) service.stop();
    const running = this.#all.reduce((sum, service) => sum + service.running, 0);
    if (running > 0) this.#host.log(`stopping: ${running} connections go on`);
  }

  #tellTotals(): void {
    const told = new Set<Tally>();
    for (const service of this.#all) {
      if (!told.has(service.tally)) this.#host.log(service.totals);
      told.add(service.tally);
    }
  }
}
