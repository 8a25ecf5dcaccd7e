/**
 * What travels beside a handed-off socket. Receivers ignore the content of the payload, but a message without any
 * would look like the end on a stream.
 */

/** The datagram hand-off of the server. */
export const DATAGRAM_PAYLOAD: Uint8Array = Uint8Array.of(0);

/** The hand-off to a receiver that has registered for a slot. */
export const SLOT_PAYLOAD: Uint8Array = Uint8Array.of(3, 0, 0, 0);

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
