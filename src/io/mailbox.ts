/**
 * A mailbox is where a receiver gets connections from: a socket that it bound at a path, or one that is connected
 * to the server (registration, or inherited).
 */
import { check, ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { FLOW_WORDS, setEnds } from "../routing/record.ts";
import { endsOfPayload, PAYLOAD_MAX, type StrictMode } from "../wire/handoff.ts";
import type { ProxyEnds } from "../wire/proxy.ts";
import { encodeRegistration, isRegistered, REGISTERED } from "../wire/registration.ts";
import { Fd } from "./fd.ts";
import { FAMILY, isUnixSocket, mustBe, SOCK, socketKind } from "./socket.ts";
import type { PassedSocket } from "./systemd.ts";
import { bindUnix, unixName } from "./unix.ts";

const MAILBOX_MODE = 0o660;
/** shutdown(2): SHUT_RD */
const SHUT_READ = 0;

/** SB_ANYBODY of cshim/socketbox.h: every sender is welcome. */
export const ANYBODY = 0xffffffff;

export interface Mailbox extends Disposable {
  readonly fd: Fd;
  /** The uid whose messages are taken; others are dropped. */
  readonly fromUid: number;
  /** Somebody else holds it too, and what is in it when we leave is for our successor. */
  readonly kept: boolean;
  /** Takes its path away, so that a successor can have it. Returns 0, also where there is none, or an errno. */
  remove(): number;
  /** Lets nobody put anything more in; what is in it can still be taken. */
  refuse(): void;
}

/** Binds a datagram socket at `path`. Throws a SysError with EADDRINUSE when a living receiver has it. */
export function bindMailbox(path: string, fromUid = ANYBODY): Mailbox {
  const { fd, remove } = bindUnix(path, SOCK.datagram, MAILBOX_MODE);
  return mailbox(fd, fromUid, remove);
}

/** Registers for `slot` with the server at `path`, and waits for its answer. Throws a SysError. */
export function registerMailbox(path: string, slot: number, fromUid = ANYBODY): Mailbox {
  const step = `register for slot ${slot} at ${path}`;
  using fd = askForSlot(path, slot, fromUid);
  check(native.sb_set_nonblocking(fd.number, 0), step);
  const answer = readAnswer(fd);
  if (answer === -ERRNO.EACCES) throw new SysError(`${step}: the server refused`, ERRNO.EACCES);
  if (answer === -ERRNO.EPROTO) throw new SysError(`${step}: not an answer`, ERRNO.EPROTO);
  check(answer, step);
  check(native.sb_set_nonblocking(fd.number, 1), step);
  return mailbox(new Fd(fd.take()), fromUid, () => 0);
}

/**
 * Asks for `slot` without waiting for the answer, which is for `readAnswer`; nothing is to be received before it.
 * Throws a SysError.
 */
export function beginRegistration(path: string, slot: number, fromUid: number): Mailbox {
  return mailbox(askForSlot(path, slot, fromUid), fromUid, () => 0);
}

/** What the server says: 0 yes; -EAGAIN nothing yet, -EACCES no, -EPROTO what is no answer, or another errno. */
export function readAnswer(fd: Fd): number {
  // One byte more than the answer has, so that a longer one is not taken for it.
  const answer = new Uint8Array(REGISTERED.length + 1);
  const length = native.sb_read(fd.number, answer, answer.length);
  if (length < 0) return length;
  if (length === 0) return -ERRNO.EACCES;
  return isRegistered(answer.subarray(0, length)) ? 0 : -ERRNO.EPROTO;
}

function askForSlot(path: string, slot: number, fromUid: number): Fd {
  const step = `register for slot ${slot} at ${path}`;
  using fd = Fd.from(native.sb_connect_unix(cString(path), SOCK.seqpacket), step);
  // Before the first connection can come.
  wantSenders(fd, fromUid, step);
  const request = encodeRegistration(slot);
  check(native.sb_write(fd.number, request, request.length), step);
  return new Fd(fd.take());
}

/** An inherited socket that connections come through. Throws a SysError where none could come. */
export function wrapMailbox(fd: number, fromUid = ANYBODY): Mailbox {
  const step = `descriptor ${fd}`;
  mustBe(isUnixSocket, fd, step);
  const own = Fd.from(native.sb_duplicate(fd), step);
  wantSenders(own, fromUid, step);
  return mailbox(own, fromUid, () => 0);
}

/**
 * The one of the sockets that the service manager passed which is bound at `path`, or the only one, where it is
 * connected and has no path. Its queue outlives us: whatever we have not taken is there for the next.
 */
export function adoptMailbox(
  passed: readonly PassedSocket[],
  path: string,
  fromUid = ANYBODY,
): Mailbox | undefined {
  const [only] = passed;
  const meant = passed.find(({ fd }) => isReceiving(fd) && unixName(fd) === path);
  const connected =
    passed.length === 1 && isReceiving(only!.fd) && unixName(only!.fd) === "" ? only : undefined;
  const found = meant ?? connected;
  if (!found) return undefined;
  return keep(wrapMailbox(found.fd, fromUid));
}

/** Of a socket that somebody else has, too, for whoever comes after us. */
export function keep(mailbox: Mailbox): Mailbox {
  return { ...mailbox, kept: true, refuse: () => {} };
}

/**
 * Takes up to `max` connections; see sb_receive_fds for the numbers that come back. Where the sender says that one
 * came through a proxy, its record has the true ends, and `proxied` is called with where it starts.
 */
export function receive(
  mailbox: Pick<Mailbox, "fromUid"> & { readonly fd: { readonly number: number } },
  flows: Uint32Array,
  max: number,
  strict: StrictMode,
  proxied: (at: number, ends: ProxyEnds) => void = () => {},
): number {
  const most = Math.min(max, PAYLOADS);
  const count = native.sb_receive_fds(mailbox.fd.number, flows, most, strict, mailbox.fromUid, payloads);
  for (let i = 0; i < count; i++) {
    const ends = endsOfPayload(payloads.subarray(i * PAYLOAD_MAX, (i + 1) * PAYLOAD_MAX));
    if (!ends) continue;
    setEnds(flows, i * FLOW_WORDS, ends);
    proxied(i * FLOW_WORDS, ends);
  }
  return count;
}

const PAYLOADS = 64;
const payloads = new Uint8Array(PAYLOADS * PAYLOAD_MAX);

function mailbox(fd: Fd, fromUid: number, remove: () => number): Mailbox {
  return {
    fd,
    fromUid,
    kept: false,
    remove,
    refuse: () => void native.sb_shutdown(fd.number, SHUT_READ),
    [Symbol.dispose]: () => {
      remove();
      fd.close();
    },
  };
}

function wantSenders(fd: Fd, fromUid: number, step: string): void {
  if (fromUid !== ANYBODY) check(native.sb_want_senders(fd.number), step);
}

function isReceiving(fd: number): boolean {
  const kind = socketKind(fd);
  return kind?.family === FAMILY.unix && !kind.listening;
}
