/** Sockets made as another program would make them, without our helper: bound where they say, and nothing more. */
import { dlopen, FFIType } from "bun:ffi";
import { readFileSync } from "node:fs";
import { Fd } from "../../src/io/fd.ts";
import { FAMILY, SOCK } from "../../src/io/socket.ts";

const { i32, ptr } = FFIType;

const libc = dlopen("libc.so.6", {
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, ptr, i32], returns: i32 },
  listen: { args: [i32, i32], returns: i32 },
}).symbols;

const CLOSE_ON_EXEC = 0o2000000;

/** A Unix socket of this type at `path`. */
export function boundUnix(path: string, type: number = SOCK.datagram): Fd {
  return bound(FAMILY.unix, type, Buffer.concat([familyOf(FAMILY.unix), Buffer.from(`${path}\0`)]));
}

/** A TCP listener on all addresses, as a socket unit makes it. */
export function listenTcp(port: number, backlog = 4096): Fd {
  const address = Buffer.alloc(28); // sockaddr_in6, ipv6(7)
  familyOf(FAMILY.inet6).copy(address);
  address.writeUInt16BE(port, 2);
  const fd = bound(FAMILY.inet6, SOCK.stream, address);
  if (libc.listen(fd.number, backlog) < 0) fail(fd, "listen");
  return fd;
}

function bound(family: number, type: number, address: Buffer): Fd {
  const fd = new Fd(libc.socket(family, type | CLOSE_ON_EXEC, 0));
  if (libc.bind(fd.number, address, address.length) < 0) fail(fd, "bind");
  return fd;
}

function fail(fd: Fd, what: string): never {
  fd.close();
  throw new Error(what);
}

/** How many connections to this port there are, those in the backlog as well. */
export function connected(port: number): number {
  return connections(port).length;
}

/** How many of them have been accepted, and are open: a socket that somebody holds has an inode (proc(5)). */
export function accepted(port: number): number {
  return connections(port).filter(([, , , , , , , , , inode]) => inode !== "0").length;
}

/** The fields of their lines in /proc/net/tcp. */
function connections(port: number): string[][] {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return ["tcp", "tcp6"]
    .flatMap((table) => readFileSync(`/proc/net/${table}`, "utf8").split("\n").slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, address, , state]) => address?.endsWith(local) && state === "01");
}

function familyOf(family: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(family);
  return bytes;
}
