/** TCP listeners: bound first, while there may be privileges, and opened to clients last. */
import type { ListenerSettings } from "../config/configuration.ts";
import { formatEndpoint } from "../model/flow.ts";
import { check } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { FLOW_WORDS, flowOf } from "../routing/record.ts";
import { Fd } from "./fd.ts";
import { isTcpSocket, mustBe } from "./socket.ts";

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
  const where = [
    ...(device === undefined ? [] : [` to interface ${device}`]),
    ...(settings.transparent ? [" as a transparent socket"] : []),
    ...(netns === undefined ? [] : [` in network namespace ${netns}`]),
  ];
  return Fd.from(result, `bind ${formatEndpoint(address, port)}${where.join("")}`);
}

/** An inherited socket, bound and perhaps listening. Throws when `fd` is not a TCP socket. */
export function adoptListener(fd: number): Fd {
  const step = `inherited listener ${fd}`;
  mustBe(isTcpSocket, fd, step);
  check(native.sb_set_nonblocking(fd, 1), step);
  return new Fd(fd);
}

/** Where a socket is bound. */
export function placeOf(listener: number): Pick<ListenerSettings, "address" | "port"> {
  const flow = new Uint32Array(FLOW_WORDS);
  check(native.sb_flow_of(listener, flow), `address of descriptor ${listener}`);
  const { local, localPort } = flowOf(flow, 0, 0);
  return { address: local, port: localPort };
}

/** Lets nobody new in: what is in its backlog can then be accepted to the end. */
export function refuseNew(listener: Fd): void {
  native.sb_refuse_new(listener.number);
}

/** Takes {@link refuseNew} back. */
export function admitNew(listener: Fd): void {
  native.sb_admit_new(listener.number);
}

/** Opens the listener to clients; harmless when it is open already. Throws a SysError that names its address. */
export function listen(listener: Fd, backlog: number): void {
  const result = native.sb_listen(listener.number, backlog);
  if (result < 0) check(result, `listen on ${boundTo(listener)}`);
}

/** `[address]:port` that the kernel says it is bound to: a port it chose itself is known only then. */
export function boundTo(listener: Fd): string {
  const words = new Uint32Array(FLOW_WORDS);
  check(native.sb_flow_of(listener.number, words), "ask a listener for its address");
  const { local, localPort } = flowOf(words, 0, 0);
  return formatEndpoint(local, localPort);
}

/** ip-netns(8) keeps named namespaces there. */
export function netnsPath(netns: string): string {
  return netns.includes("/") ? netns : `/run/netns/${netns}`;
}
