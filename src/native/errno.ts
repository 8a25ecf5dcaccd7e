/** `-errno` from the helper becomes a {@link SysError} with the step that failed, and the errno's name. */
import { constants } from "node:os";

/** Node has no name for the second (errno(3)). */
export const ERRNO = { ...constants.errno, ETOOMANYREFS: 109 };

/** What the kernel answers and `node:os` does not name (errno(3); the numbers are those of both our machines). */
const UNNAMED = { ENONET: 64, ESHUTDOWN: 108, ETOOMANYREFS: 109, EHOSTDOWN: 112 } as const;

const names = new Map(
  Object.entries({ ...ERRNO, ...UNNAMED }).map(([name, value]) => [value as number, name]),
);

/** The words of strerror(3) for what a user of ours is likely to meet; others go by their name alone. */
const words: Partial<Record<string, string>> = {
  EACCES: "permission denied",
  EADDRINUSE: "address already in use",
  EADDRNOTAVAIL: "no such address on this host",
  EBADF: "not an open descriptor",
  ECONNREFUSED: "nobody is there",
  EISDIR: "a folder",
  EMFILE: "too many open descriptors",
  ENAMETOOLONG: "name too long",
  ENODEV: "no such device",
  ENOENT: "no such file, or folder",
  ENOEXEC: "not a program for this machine",
  ENOSPC: "no space left",
  ENOTDIR: "not a folder",
  ENOTSOCK: "not a socket",
  EPERM: "not permitted",
  EPROTOTYPE: "another kind of socket",
  ETIMEDOUT: "timed out",
};

export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** `EACCES (permission denied)` */
export function describeErrno(errno: number): string {
  const name = errnoName(errno);
  return words[name] ? `${name} (${words[name]})` : name;
}

/** A system call that failed: `step: EACCES (permission denied)`. */
export class SysError extends Error {
  constructor(
    /** What was being done, to what: `bind [::]:80`. */
    readonly step: string,
    /** Positive. */
    readonly errno: number,
  ) {
    super(`${step}: ${describeErrno(errno)}`);
    this.name = "SysError";
  }
}

/** `result`, unless it is an error. */
export function check(result: number, step: string): number {
  if (result < 0) throw new SysError(step, -result);
  return result;
}
