/**
 * What travels beside a handed-off socket. Receivers ignore the content of the payload, but a message without any
 * would look like the end on a stream.
 */

import { decodeProxy, encodeProxy, type ProxyEnds } from "./proxy.ts";

/** The datagram hand-off of the server. */
export const DATAGRAM_PAYLOAD: Uint8Array = Uint8Array.of(0);

/** The hand-off to a receiver that has registered for a slot. */
export const SLOT_PAYLOAD: Uint8Array = Uint8Array.of(3, 0, 0, 0);

/** The most payload that any receiver reads. */
export const PAYLOAD_MAX = 128;

/**
 * The payload beside a connection that came through a proxy: what it would be without, and behind it a PROXY header
 * of version 2 with the true ends. Receivers that do not know it take the connection as they take any.
 */
export function proxiedPayload(plain: Uint8Array, ends: ProxyEnds): Uint8Array {
  return Uint8Array.from([...plain, ...encodeProxy(2, ends)]);
}

/** The true ends that a payload tells; `undefined` when it tells none. What is behind a short one is zero. */
export function endsOfPayload(payload: Uint8Array): ProxyEnds | undefined {
  for (const { length } of [DATAGRAM_PAYLOAD, SLOT_PAYLOAD]) {
    // Its signature begins with a carriage return, which no plain payload has.
    if (payload[length] !== 0x0d) continue;
    const decoded = decodeProxy(payload.subarray(length));
    if (decoded.kind === "header") return decoded.header.ends;
  }
  return undefined;
}

/**
 * Which received sockets are taken (SKBOX_STRICT_STREAM_MODE): 0 any; 1 of type SOCK_STREAM; 2 also of the families
 * AF_UNIX, AF_INET, AF_INET6, and not listening.
 */
export type StrictMode = 0 | 1 | 2;

/** The mode that the environment asks for; `undefined` when it cannot be read. */
export function parseStrictMode(value: string | undefined): StrictMode | undefined {
  if (value === undefined || value === "2") return 2;
  if (value === "0") return 0;
  return value === "1" ? 1 : undefined;
}
