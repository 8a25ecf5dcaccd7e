/** From whom a PROXY protocol header is taken. */
import { type Address, type AddressPattern, matches } from "./address.ts";

export const PROXY_MODES = ["require", "optional", "never"] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

export interface ProxyReceiving {
  readonly mode: ProxyMode;
  /** Who may send a header. From anybody else none is looked for. */
  readonly from: readonly AddressPattern[];
  /** How long a header may take to come. */
  readonly waitMs: number;
}

/** What to do with a connection from `sender`: read its header, refuse it for want of one, or neither. */
export function headerOf({ mode, from }: ProxyReceiving, sender: Address): "read" | "refuse" | "none" {
  if (mode === "never") return "none";
  if (from.some((pattern) => matches(pattern, sender))) return "read";
  return mode === "require" ? "refuse" : "none";
}
