/**
 * What a service manager and its services say to each other: sockets that were passed (sd_listen_fds(3)), messages
 * about our state, and descriptors that it keeps for us over a restart (sd_notify(3)).
 */
import { check, ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { Fd } from "./fd.ts";
import { SOCK } from "./socket.ts";

/** SD_LISTEN_FDS_START */
const FIRST_FD = 3;
/** How often a full queue of the manager is tried again, a millisecond apart. */
const TRIES = 1000;

/** What only the process itself is meant to see of these protocols. */
export const MANAGER_VARIABLES = [
  "LISTEN_PID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
  "NOTIFY_SOCKET",
  "WATCHDOG_PID",
  "WATCHDOG_USEC",
  "FDSTORE",
] as const;

export interface PassedSocket {
  readonly fd: number;
  /** As the unit calls it; `unknown` where it does not. */
  readonly name: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The sockets that were passed to this very process; no program that we start gets them. */
export function passedSockets(env: Environment, pid = process.pid): PassedSocket[] {
  const count = Number(env.LISTEN_FDS);
  if (env.LISTEN_PID !== String(pid) || !Number.isInteger(count) || count <= 0) return [];
  const names = env.LISTEN_FDNAMES?.split(":") ?? [];
  return Array.from({ length: count }, (_, i) => {
    const fd = FIRST_FD + i;
    check(native.sb_set_inheritable(fd, 0), `passed socket ${fd}`);
    return { fd, name: names[i] || "unknown" };
  });
}

/** How often the manager wants a sign of life from this very process, in milliseconds; `undefined`: not at all. */
export function watchdogMs(env: Environment, pid = process.pid): number | undefined {
  const usec = Number(env.WATCHDOG_USEC);
  if (!(usec > 0) || (env.WATCHDOG_PID !== undefined && env.WATCHDOG_PID !== String(pid))) return undefined;
  return usec / 1000;
}

export class Manager {
  readonly #path: string;
  #socket: Fd;

  /**
   * Connected now, because after a chroot there may be no way to it. Without somebody there, `complain` hears why, and
   * we work as without a manager.
   */
  static connect(env: Environment, complain: (why: string) => void): Manager | undefined {
    const path = env.NOTIFY_SOCKET;
    if (!path) return undefined;
    // Other families of addresses, such as the vsock: of virtual machines, are not for services.
    const result = /^[/@]/.test(path)
      ? native.sb_connect_unix(cString(path), SOCK.datagram)
      : -ERRNO.EAFNOSUPPORT;
    if (result >= 0) return new Manager(path, new Fd(result));
    complain(`${failure(path, result)}; going on without a service manager`);
    return undefined;
  }

  private constructor(path: string, socket: Fd) {
    this.#path = path;
    this.#socket = socket;
  }

  /** Assignments such as `READY=1`. Returns why it did not go, or nothing. */
  say(...assignments: readonly string[]): string | undefined {
    const message = Buffer.from(assignments.join("\n"));
    return this.#try(() => native.sb_write(this.#socket.number, message, message.length));
  }

  /** Gives it a duplicate of `fd` to keep, and to pass to whoever runs after us; `name` may have no colon. */
  store(name: string, fd: number): string | undefined {
    // Without FDPOLL=0 it would let go of what shows EPOLLHUP or EPOLLERR.
    const message = Buffer.from(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`);
    using copy = Fd.from(native.sb_duplicate(fd), name);
    const fds = Int32Array.of(copy.number);
    const failure = this.#try(() => native.sb_send_fds(this.#socket.number, fds, 1, message, message.length));
    if (failure === undefined) copy.take(); // it went, and was closed
    return failure;
  }

  /** Lets it drop all that was stored by this name. */
  forget(name: string): string | undefined {
    return this.say("FDSTOREREMOVE=1", `FDNAME=${name}`);
  }

  #try(send: () => number): string | undefined {
    for (let tries = 0; ; tries++) {
      const result = send();
      if (result >= 0) return undefined;
      if (result !== -ERRNO.EAGAIN || tries === TRIES) return failure(this.#path, result);
      Bun.sleepSync(1);
    }
  }
}

function failure(path: string, result: number): string {
  return new SysError(`notify ${path}`, -result).message;
}
