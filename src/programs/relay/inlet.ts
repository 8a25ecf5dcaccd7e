/** Where a relay's connections come from: a mailbox that they are handed to, or a listener. */
import type { Inlet as InletSettings } from "../../config/relay.ts";
import { Fd } from "../../io/fd.ts";
import {
  adoptMailbox,
  bindMailbox,
  type Mailbox,
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
      return mailboxInlet(registerMailbox(settings.path, settings.slot, fromUid), strict);
    case "fd":
      return inheritedInlet(settings.fd, strict, fromUid);
  }
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

function inheritedInlet(number: number, strict: StrictMode, fromUid: number): Inlet {
  const step = `inherited descriptor ${number}`;
  const kind = socketKind(number);
  if (!kind) throw new SysError(step, ERRNO.ENOTSOCK);
  if (!kind.listening) {
    if (kind.family !== FAMILY.unix) throw new SysError(`${step} does not listen`, ERRNO.EINVAL);
    return mailboxInlet(wrapMailbox(number, fromUid), strict);
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
