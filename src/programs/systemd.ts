/**
 * The server as a service of systemd (systemd.service(5), Type=notify): what it says of its state, the watchdog that
 * follows the data plane, and the descriptors that are kept for it over a restart.
 */
import { Manager, watchdogMs } from "../io/systemd.ts";
import { native } from "../native/library.ts";
import type { Acceptors } from "./acceptors.ts";
import { storedName } from "./given.ts";
import type { Host } from "./host.ts";
import type { Listener } from "./listeners.ts";
import type { Registry } from "./registry.ts";

/** How many times in the manager's interval we look: a hung acceptor shows after one, a slow one may miss two. */
const LOOKS = 4;
/** How often what `systemctl status` shows is brought up to date. */
const STATUS_MS = 5000;

export class SystemdService {
  readonly #host: Host;
  readonly #manager: Manager | undefined;
  readonly #watchdogMs: number | undefined;
  #status = "";

  /** To be made before a chroot takes the manager's socket away. */
  constructor(host: Host) {
    this.#host = host;
    this.#manager = Manager.connect(host.env, host.log);
    this.#watchdogMs = watchdogMs(host.env);
  }

  /** Whether somebody may keep descriptors for our successor. */
  get isManaged(): boolean {
    return this.#manager !== undefined;
  }

  ready(status: string, acceptors: Acceptors): void {
    if (!this.#manager) return;
    this.#say("READY=1", `STATUS=${status}`);
    setInterval(() => this.#showStatus(acceptors.summary), STATUS_MS).unref();
    if (this.#watchdogMs !== undefined) this.#watch(acceptors, this.#watchdogMs / LOOKS);
  }

  /** To be followed by {@link reloaded}. */
  reloading(): void {
    const microseconds = new BigUint64Array(1);
    native.sb_monotonic(microseconds);
    this.#say("RELOADING=1", `MONOTONIC_USEC=${microseconds[0]}`);
  }

  reloaded(status: string): void {
    this.#say("READY=1", `STATUS=${status}`);
  }

  stopping(): void {
    this.#say("STOPPING=1", "STATUS=delivering what has come");
  }

  /** Has the manager keep what we bound ourselves; what it passed, it keeps anyway. */
  keepListeners(listeners: readonly Listener[]): void {
    for (const { settings, fds, meant } of listeners) {
      if (meant === "binding")
        for (const fd of fds) this.#store(storedName.listener(settings.name), fd.number);
    }
  }

  forgetListeners(listeners: readonly Listener[]): void {
    for (const { settings } of listeners) this.#forget(storedName.listener(settings.name));
  }

  keepRegistries(registries: readonly Registry[]): void {
    for (const { settings, socket } of registries)
      this.#store(storedName.registry(settings.path), socket.fd.number);
  }

  forgetRegistries(registries: readonly Registry[]): void {
    for (const { settings } of registries) this.#forget(storedName.registry(settings.path));
  }

  /** A slot has another holder, or none. */
  keepSlot(slot: number, path: string, fd: number | undefined): void {
    const name = storedName.slot(slot, path);
    this.#forget(name);
    if (fd !== undefined) this.#store(name, fd);
  }

  /** A sign of life only while every acceptor gives one. */
  #watch(acceptors: Acceptors, everyMs: number): void {
    let before = acceptors.turns;
    let silent = false;
    acceptors.nudge();
    setInterval(() => {
      const now = acceptors.turns;
      const hung = now.findIndex((turns, index) => turns === before[index]);
      before = now;
      acceptors.nudge();
      if (hung < 0) this.#say("WATCHDOG=1");
      if (hung >= 0 && !silent)
        this.#host.log(`acceptor ${hung} gives no sign of life: the watchdog gets none`);
      silent = hung >= 0;
    }, everyMs);
  }

  #showStatus(status: string): void {
    if (status !== this.#status) this.#say(`STATUS=${status}`);
    this.#status = status;
  }

  #store(name: string, fd: number): void {
    this.#note(this.#manager?.store(name, fd));
  }

  #forget(name: string): void {
    this.#note(this.#manager?.forget(name));
  }

  #say(...assignments: readonly string[]): void {
    this.#note(this.#manager?.say(...assignments));
  }

  #note(failure: string | undefined): void {
    if (failure !== undefined) this.#host.log(failure);
  }
}
