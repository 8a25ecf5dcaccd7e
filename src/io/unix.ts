/** Unix sockets that are bound at a path: made with exactly the mode wanted, and removed only while they are ours. */
import { lstatSync, statSync } from "node:fs";
import { check, ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { Fd } from "./fd.ts";
import { SOCK } from "./socket.ts";

export interface BoundUnix {
  readonly path: string;
  readonly fd: Fd;
  /** Takes the path away, unless somebody else's socket is there by now. Returns 0, or the errno of a failure. */
  remove(): number;
}

/** uid and gid that a socket file shall have. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Throws a SysError, with EADDRINUSE where somebody living has the path; a stale socket is replaced. */
export function bindUnix(path: string, type: number, mode: number, owner?: Owner): BoundUnix {
  // For its owner alone until it has the right one: a mode means something else for another.
  const first = owner ? mode & 0o700 : mode;
  const bound = adoptUnix(path, Fd.from(native.sb_bind_unix(cString(path), type, first), `bind ${path}`));
  if (!owner || path.startsWith("@")) return bound;
  // Not by chown(2), which would follow what somebody else may have put there by now.
  const result = native.sb_own_unix(cString(path), mode, owner.uid, owner.gid);
  if (result >= 0) return bound;
  bound.remove();
  bound.fd.close();
  throw new SysError(`owner of ${path}`, -result);
}

/** The same for a socket that is bound at `path` already. */
export function adoptUnix(path: string, fd: Fd): BoundUnix {
  check(native.sb_set_nonblocking(fd.number, 1), `socket ${path}`);
  const file = path.startsWith("@") ? undefined : lstatSync(path, { bigint: true, throwIfNoEntry: false });
  const root = rootFolder();
  return {
    path,
    fd,
    remove: () => {
      if (file && rootFolder() !== root) return ERRNO.ENOENT; // after a chroot the path means something else
      const result = file ? native.sb_unbind_unix(cString(path), file.dev, file.ino) : 0;
      return result === -ERRNO.ESTALE || result === -ERRNO.ENOENT ? 0 : -result;
    },
  };
}

function rootFolder(): string {
  const { dev, ino } = statSync("/", { bigint: true });
  return `${dev} ${ino}`;
}

/** Where the socket is bound: a path, `@name`, or nothing; `undefined` for another kind of descriptor. */
export function unixName(fd: number): string | undefined {
  const name = new Uint8Array(108);
  const length = native.sb_unix_name(fd, name);
  return length < 0 ? undefined : Buffer.from(name.subarray(0, length)).toString();
}

/** Whether there is anything at the path, or in the abstract namespace a datagram socket of that `@name`. */
export function isUnixThere(path: string): boolean {
  if (!path.startsWith("@")) return native.sb_inode(cString(path), new BigUint64Array(2)) >= 0;
  const socket = native.sb_connect_unix(cString(path), SOCK.datagram);
  if (socket >= 0) native.sb_close(socket);
  return socket >= 0;
}
