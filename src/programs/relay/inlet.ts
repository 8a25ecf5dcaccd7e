/** Where a relay's connections come from: a mailbox that they are handed to, or a listener. */
import type { Inlet as InletSettings } from "../../config/relay.ts";
import { Fd } from "../../io/fd.ts";
import {
  adoptMailbox,
  beginRegistration,
  bindMailbox,
  keep,
  type Mailbox,
  readAnswer,
  receive,
  registerMailbox,
  wrapMailbox,
} from "../../io/mailbox.ts";
import { FAMILY, socketKind } from "../../io/socket.ts";
import type { PassedSocket } from "../../io/systemd.ts";
import { check, ERRNO, SysError } from "../../native/errno.ts";
import { native } from "../../native/library.ts";
import type { StrictMode } from "../../wire/handoff.ts";

export interface Inlet extends Disposable {
  readonly fd: Fd;
  /** Its connections have been nobody else's before. */
  readonly accepts: boolean;
  /** Fills `flows` with up to `max` connections; a negative errno when that fails as a whole. */
  take(flows: Uint32Array, max: number): number;
  /** Lets nobody put anything more in. What is in it can still be taken, where that is ours to take. */
  refuse(): void;
  /** There is a way back to a server that has gone. */
  readonly renewal?: Renewal;
}

export interface Renewal {
  /** `lost`: the server has gone, or refused; `asked`: it has not answered yet. */
  readonly state: "registered" | "asked" | "lost";
  /** Asks again: 0, or a negative errno. The answer comes through the inlet's descriptor, which is a new one then. */
  ask(): number;
}

/** enum sb_accept_flag */
const ACCEPT_NONBLOCKING = 2;

/** What tells inlets apart: a reload keeps those whose key is still wanted. */
export function inletKey(settings: InletSettings): string {
  switch (settings.kind) {
    case "unix":
      return `unix:${settings.path}`;
    case "slot":
      return `slot:${settings.slot}:${settings.path}`;
    case "fd":
      return `fd:${settings.fd}`;
    case "passed":
      return `systemd:${settings.name}`;
  }
}

/** Throws a SysError. A path's socket is bound, unless it is one of those that a service manager has `passed`. */
export function openInlet(
  settings: InletSettings,
  strict: StrictMode,
  passed: readonly PassedSocket[],
  fromUid: number,
): Inlet {
  switch (settings.kind) {
    case "unix":
      return mailboxInlet(
        adoptMailbox(passed, settings.path, fromUid) ?? bindMailbox(settings.path, fromUid),
        strict,
      );
    case "slot":
      return new SlotInlet(settings.path, settings.slot, strict, fromUid);
    case "fd":
      return inheritedInlet(
        settings.fd,
        strict,
        fromUid,
        passed.some(({ fd }) => fd === settings.fd),
      );
    case "passed":
      return inheritedInlet(fdOf(settings.name, passed), strict, fromUid, true);
  }
}

function fdOf(name: string, passed: readonly PassedSocket[]): number {
  const [found, ...others] = passed.filter((one) => one.name === name);
  const step = `passed socket ${name}`;
  if (!found) throw new SysError(`${step}: there is none of that name (LISTEN_FDNAMES)`, ERRNO.ENOENT);
  if (others.length > 0) throw new SysError(`${step}: ${others.length + 1} have that name`, ERRNO.EINVAL);
  return found.fd;
}

function mailboxInlet(mailbox: Mailbox, strict: StrictMode): Inlet {
  return {
    fd: mailbox.fd,
    accepts: false,
    take: (flows, max) => receive(mailbox, flows, max, strict),
    refuse: () => {
      mailbox.remove();
      mailbox.refuse();
    },
    [Symbol.dispose]: () => mailbox[Symbol.dispose](),
  };
}

/** A slot of a server. That may go, and come again. */
class SlotInlet implements Inlet, Renewal {
  readonly accepts = false;
  readonly #path: string;
  readonly #slot: number;
  readonly #strict: StrictMode;
  #mailbox: Mailbox;
  #state: Renewal["state"] = "registered";

  constructor(path: string, slot: number, strict: StrictMode, fromUid: number) {
    this.#path = path;
    this.#slot = slot;
    this.#strict = strict;
    this.#mailbox = registerMailbox(path, slot, fromUid);
  }

  get fd(): Fd {
    return this.#mailbox.fd;
  }

  get renewal(): Renewal {
    return this;
  }

  get state(): Renewal["state"] {
    return this.#state;
  }

  ask(): number {
    try {
      const next = beginRegistration(this.#path, this.#slot, this.#mailbox.fromUid);
      this.#mailbox[Symbol.dispose]();
      this.#mailbox = next;
    } catch (error) {
      if (error instanceof SysError) return -error.errno;
      throw error;
    }
    this.#state = "asked";
    return 0;
  }

  take(flows: Uint32Array, max: number): number {
    if (this.#state === "lost") return -ERRNO.ENODATA;
    if (this.#state === "asked") {
      const answer = readAnswer(this.fd);
      if (answer === -ERRNO.EAGAIN) return 0;
      this.#state = answer < 0 ? "lost" : "registered";
      if (answer < 0) return answer;
    }
    const count = receive(this.#mailbox, flows, max, this.#strict);
    if (count === -ERRNO.ENODATA) this.#state = "lost";
    return count;
  }

  refuse(): void {
    this.#mailbox.refuse();
  }

  [Symbol.dispose](): void {
    this.#mailbox[Symbol.dispose]();
  }
}

/** `kept`: a service manager has it, too, for our successor. */
function inheritedInlet(number: number, strict: StrictMode, fromUid: number, kept: boolean): Inlet {
  const step = `inherited descriptor ${number}`;
  const kind = socketKind(number);
  if (!kind) throw new SysError(step, ERRNO.ENOTSOCK);
  if (!kind.listening) {
    if (kind.family !== FAMILY.unix) throw new SysError(`${step} does not listen`, ERRNO.EINVAL);
    const mailbox = wrapMailbox(number, fromUid);
    return mailboxInlet(kept ? keep(mailbox) : mailbox, strict);
  }
  const fd = Fd.from(native.sb_duplicate(number), step);
  check(native.sb_set_nonblocking(fd.number, 1), step);
  return {
    fd,
    accepts: true,
    take: (flows, max) => native.sb_accept(fd.number, flows, max, ACCEPT_NONBLOCKING),
    // Others may accept on it too, and a successor surely will: what is in its backlog is theirs.
    refuse: () => {},
    [Symbol.dispose]: () => fd.close(),
  };
}
