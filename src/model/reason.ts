/** Why a connection was given up. Each is counted; none is silent. */
export const REASONS = [
  /** No route of the table fits, and it has no default. */
  "no-route",
  /** The table says `deny`. */
  "denied",
  /** Nobody was at the target's path, or in its slot, for as long as the connection may wait. */
  "no-receiver",
  /** As many connections wait for the target as may. */
  "queue-full",
  /** The receiver is there, and took nothing for as long as the connection may wait. */
  "timeout",
  /** The peer of an inherited socket has gone, and cannot come again. */
  "receiver-gone",
  /** The client reset the connection while it waited, or before it could be accepted. */
  "client-gone",
  /** The other server (`-P`) sent a message without a connection, or with one that was not to be had. */
  "bad-message",
  /** The PROXY header that it must begin with is missing, wrong, or from somebody who may not send one. */
  "proxy-header",
  /** Its PROXY header did not come in time. */
  "proxy-timeout",
  /** A limit on connections was reached. */
  "limit",
  /** The server was told to stop at once. */
  "shutdown",
] as const;

export type Reason = (typeof REASONS)[number];
