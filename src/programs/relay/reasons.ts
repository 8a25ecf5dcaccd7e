/** How a relayed connection ended. Each is counted; none is silent. */
export const ENDINGS = [
  /** Both sides finished. */
  "closed",
  /** The client reset the connection, or vanished. */
  "client-reset",
  /** The target did. */
  "target-reset",
  /** No target could be reached. */
  "connect-failed",
  /** The same, and the last one never answered. */
  "connect-timeout",
  "idle-timeout",
  "half-closed-timeout",
  "total-timeout",
  /** A PROXY header is missing, wrong, or from somebody who may not send one. */
  "proxy-header",
  "proxy-timeout",
  /** Its local address is not below the NAT64 prefix. */
  "no-target",
  /** What was received cannot be waited for: it is no socket (SKBOX_STRICT_STREAM_MODE=0). */
  "unusable",
  /** Too many from its source (`per-source`). */
  "limit",
  /** It still ran when the time to drain was over. */
  "shutdown",
] as const;

export type Ending = (typeof ENDINGS)[number];

/** Endings that leave a stream cut off: the peers get a reset, so that nobody takes it for the whole. */
export const CUT_OFF: ReadonlySet<Ending> = new Set<Ending>([
  "client-reset",
  "target-reset",
  "idle-timeout",
  "half-closed-timeout",
  "total-timeout",
  "shutdown",
]);
