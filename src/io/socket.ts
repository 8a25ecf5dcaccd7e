/** Small questions about a descriptor that may be a socket. */
import { check, ERRNO, SysError } from "../native/errno.ts";
import { native } from "../native/library.ts";

/** socket(7); the numbers are the same on both machines we run on. */
export const FAMILY = { unix: 1, inet: 2, inet6: 10 } as const;
export const SOCK = { stream: 1, datagram: 2, seqpacket: 5 } as const;

export interface SocketKind {
  readonly family: number;
  readonly type: number;
  readonly listening: boolean;
}

/** `undefined` when the descriptor is not open, or not a socket. */
export function socketKind(fd: number): SocketKind | undefined {
  const kind = new Int32Array(4);
  if (native.sb_socket_kind(fd, kind) < 0) return undefined;
  return { family: kind[0]!, type: kind[1]!, listening: kind[3] !== 0 };
}

/** Throws a SysError that says why the descriptor is no such socket. */
export function mustBe(is: (fd: number) => boolean, fd: number, step: string): void {
  check(native.sb_socket_kind(fd, new Int32Array(4)), step);
  if (!is(fd)) throw new SysError(step, ERRNO.EPROTOTYPE);
}

export function isUnixSocket(fd: number): boolean {
  return socketKind(fd)?.family === FAMILY.unix;
}

export function isInetSocket(fd: number): boolean {
  const family = socketKind(fd)?.family;
  return family === FAMILY.inet || family === FAMILY.inet6;
}

export function isTcpSocket(fd: number): boolean {
  return isInetSocket(fd) && socketKind(fd)?.type === SOCK.stream;
}
