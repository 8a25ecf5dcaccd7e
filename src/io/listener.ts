/** TCP listeners: bound first, while there may be privileges, and opened to clients last. */
import type { ListenerSettings } from "../config/configuration.ts";
import { formatEndpoint } from "../model/flow.ts";
import { check, ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { Fd } from "./fd.ts";
import { isTcpSocket } from "./socket.ts";

/** enum sb_bind_flag */
const BIND = { transparent: 1, freebind: 2, reuseAddress: 4, reusePort: 8 } as const;

/** A bound socket that does not listen yet. Throws a SysError that names the address. */
export function bindListener(settings: ListenerSettings): Fd {
  const flags =
    (settings.transparent ? BIND.transparent : 0) |
    (settings.freebind ? BIND.freebind : 0) |
    (settings.reuseAddress ? BIND.reuseAddress : 0) |
    (settings.reusePort ? BIND.reusePort : 0);
  const { address, scope, port, device, netns } = settings;
  const result = native.sb_bind_inet(
    address,
    scope,
    port,
    flags,
    device === undefined ? null : cString(device),
    netns === undefined ? null : cString(netnsPath(netns)),
  );
  const where = netns === undefined ? "" : ` in network namespace ${netns}`;
  return Fd.from(result, `bind ${formatEndpoint(address, port)}${where}`);
}

/** An inherited socket, bound and perhaps listening. Throws when `fd` is not a TCP socket. */
export function adoptListener(fd: number): Fd {
  const step = `inherited listener ${fd}`;
  if (!isTcpSocket(fd)) throw new SysError(step, ERRNO.ENOTSOCK);
  check(native.sb_set_nonblocking(fd, 1), step);
  return new Fd(fd);
}

/** Opens the listener to clients; harmless when it is open already. */
export function listen(listener: Fd, backlog: number): void {
  check(native.sb_listen(listener.number, backlog), "listen");
}

/** ip-netns(8) keeps named namespaces there. */
export function netnsPath(netns: string): string {
  return netns.includes("/") ? netns : `/run/netns/${netns}`;
}
