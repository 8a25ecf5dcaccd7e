/** Connections to others, begun without waiting for them. */
import type { Address } from "../model/address.ts";
import type { Hop } from "../model/upstream.ts";
import { ERRNO } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { Fd } from "./fd.ts";
import { netnsPath } from "./listener.ts";
import { SOCK } from "./socket.ts";

export interface ConnectFrom {
  /** Connect from this address; the kernel chooses one where there is none. */
  readonly source: Address | undefined;
  /** The source is somebody else's (IPV6_TRANSPARENT). */
  readonly transparent: boolean;
  /** See {@link openNetns}. */
  readonly sockets: Fd | undefined;
}

/**
 * The socket, once it is on its way; a negative errno where that is refused at once. For a Unix socket, EAGAIN says
 * that its listener's backlog is full.
 */
export function beginConnect(hop: Hop, from: ConnectFrom): Fd | number {
  const result =
    hop.kind === "unix"
      ? native.sb_connect_unix(cString(hop.path), SOCK.stream)
      : native.sb_connect_inet(
          hop.address,
          hop.scope,
          hop.port,
          from.source ?? null,
          from.transparent ? 1 : 0,
          from.sockets?.number ?? -1,
        );
  return result < 0 ? result : new Fd(result);
}

/** What became of it: 0 it stands, -EINPROGRESS not yet, any other negative errno. */
export function connectResult(fd: Fd): number {
  return native.sb_connect_result(fd.number);
}

export function isUnderWay(result: number): boolean {
  return result === -ERRNO.EINPROGRESS;
}

/** The right to make sockets in another network namespace, for as long as the descriptor is open. */
export function openNetns(netns: string): Fd {
  const path = netnsPath(netns);
  return Fd.from(native.sb_netns_sockets(cString(path)), `enter network namespace ${netns}`);
}

/** The number of the network interface; `undefined` when there is none of that name. */
export function interfaceIndex(name: string): number | undefined {
  const index = native.sb_interface_index(cString(name));
  return index > 0 ? index : undefined;
}
