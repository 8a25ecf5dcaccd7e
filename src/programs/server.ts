/** The server while it runs: reloaded, handed over, stopped. */
import type { Taken } from "../io/deliver.ts";
import type { Fd } from "../io/fd.ts";
import { native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import type { Acceptors } from "./acceptors.ts";
import type { ListenerNumbers } from "./configure.ts";
import type { Host } from "./host.ts";
import {
  type Binding,
  type Listener,
  nextSourceId,
  retireListeners,
  sourcesOf,
  type WorkerSource,
} from "./listeners.ts";
import type { ServeOptions } from "./plan.ts";
import type { Registered, Registrar } from "./registry.ts";
import { keepOf, reload, type State } from "./reload.ts";
import type { SourceFile } from "./source-file.ts";
import type { SystemdService } from "./systemd.ts";
import type { Estate, WaitingSocket } from "./takeover.ts";

export interface Parts {
  readonly host: Host;
  readonly options: ServeOptions;
  readonly numbers: ListenerNumbers;
  readonly acceptors: Acceptors;
  /** Absent where there can be no registry: without a file in TOML. */
  readonly registrar: Registrar | undefined;
  readonly binding: Binding;
  readonly service: SystemdService;
  /** Absent without a configuration (`-S`, `-i`). */
  readonly file: SourceFile | undefined;
  /** `-P` */
  readonly mailbox: Fd | undefined;
  readonly state: State;
}

export class Server implements Estate {
  readonly #parts: Parts;
  #state: State;
  /** The last reload, or an empty one: they come one after the other, and none while a takeover is not settled. */
  #reloading = Promise.resolve();
  /** Absent while nothing has been released. */
  #settled: (() => void) | undefined;
  /** What waits, while a successor takes over. */
  #released: readonly Taken[] = [];
  /** A successor listens, too, and will be at the paths even if we end before it has it all. */
  #shared = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#state = parts.state;
  }

  /** What the acceptors take connections from. */
  sources(listeners: readonly Listener[]): WorkerSource[] {
    const { mailbox, numbers, binding, options } = this.#parts;
    const sources = listeners.flatMap((listener) => sourcesOf(listener, binding.workers, numbers));
    const clears = options.listener.clearTransparent === true;
    return mailbox ? [...sources, mailboxSource(mailbox, clears)] : sources;
  }

  /** Lets go of what serves already and is no longer wanted: what is in its backlog is served. */
  retire(removed: readonly Listener[]): void {
    const { acceptors, service, numbers } = this.#parts;
    const { plan, listeners } = this.#state;
    service.forgetListeners(removed);
    retireListeners(removed);
    void acceptors.change(plan.table, [], keepOf(listeners, numbers));
  }

  /** All is set up, and served. */
  begin(status: string): void {
    const { service, acceptors } = this.#parts;
    service.keepListeners(this.#state.listeners);
    service.keepRegistries(this.#parts.registrar?.registries ?? []);
    service.ready(status, acceptors);
  }

  /** SIGHUP: the configuration is read again. */
  hangUp(): void {
    const { host, file } = this.#parts;
    if (!file) host.log("there is no configuration to reload");
    else this.#reloading = this.#reloading.then(() => this.#reload(file));
  }

  /** Resolves to the exit code. */
  async end(): Promise<number> {
    const { acceptors, options, service, registrar } = this.#parts;
    const exitWhenLost = options.direct?.kind === "fd";
    const code = await acceptors.end({ exitWhenLost, stopping: () => service.stopping() });
    // Who goes on after us, or keeps the sockets for who will, has the paths too.
    registrar?.close({ removePaths: !this.#shared && !service.isManaged });
    return code;
  }

  /** Whether a successor has what we listen on. */
  get shared(): boolean {
    return this.#shared;
  }

  async listeners(): Promise<readonly Listener[]> {
    await this.#reloading; // those that one removes are closed before it is over
    this.#shared = true;
    return this.#state.listeners;
  }

  registries(): { path: string; fd: number }[] {
    const { registrar } = this.#parts;
    return (registrar?.registries ?? []).map(({ settings, socket }) => ({
      path: settings.path,
      fd: socket.fd.number,
    }));
  }

  get mailbox(): number | undefined {
    return this.#parts.mailbox?.number;
  }

  async release(): Promise<{ waiting: WaitingSocket[]; registered: readonly Registered[] }> {
    const { acceptors, registrar, numbers } = this.#parts;
    const reloaded = this.#reloading;
    const { promise, resolve } = Promise.withResolvers<void>();
    // In line at once: a reload that is asked for meanwhile comes after it.
    this.#reloading = reloaded.then(() => promise);
    this.#settled = resolve;
    await reloaded;
    registrar?.pause();
    this.#released = await acceptors.release();
    const waiting = this.#released.map((taken) => ({ ...taken, listener: numbers.name(taken.listener) }));
    return { waiting, registered: registrar?.registered ?? [] };
  }

  resume(): void {
    const { acceptors, registrar } = this.#parts;
    this.#shared = false;
    if (!this.#settled) return;
    registrar?.resume();
    acceptors.resume(this.sources(this.#state.listeners), this.#released);
    this.#released = [];
    this.#settled();
    this.#settled = undefined;
  }

  leave(): void {
    const { host, acceptors } = this.#parts;
    for (const { flow } of this.#released) native.sb_close(flow[FLOW_FD_WORD]! | 0);
    host.log("handed over");
    acceptors.leave();
    this.#settled?.();
  }

  async #reload(file: SourceFile): Promise<void> {
    const { host, service, registrar, acceptors } = this.#parts;
    if (acceptors.stopping) {
      host.log(`not reloaded: ${this.#shared ? "another server takes over" : "the server stops"}`);
      return;
    }
    const before = this.#state;
    const registriesBefore = registrar?.registries ?? [];
    service.reloading();
    this.#state = await reload(this.#parts, file, before);
    const { listeners } = this.#state;
    const had = new Set(before.listeners.map(({ id }) => id));
    const has = new Set(listeners.map(({ id }) => id));
    service.forgetListeners(before.listeners.filter(({ id }) => !has.has(id)));
    service.keepListeners(listeners.filter(({ id }) => !had.has(id)));
    const registries = registrar?.registries ?? [];
    const kept = new Set(registries.map(({ socket }) => socket));
    const known = new Set(registriesBefore.map(({ socket }) => socket));
    service.forgetRegistries(registriesBefore.filter(({ socket }) => !kept.has(socket)));
    service.keepRegistries(registries.filter(({ socket }) => !known.has(socket)));
    service.reloaded(acceptors.summary);
  }
}

function mailboxSource(mailbox: Fd, clearTransparent: boolean): WorkerSource {
  const fd = native.sb_duplicate(mailbox.number);
  const id = nextSourceId();
  return {
    id,
    kind: "mailbox",
    fd,
    listener: 0,
    clearTransparent,
    shared: false,
    ending: "drain",
    worker: 0,
  };
}
