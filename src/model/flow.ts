/** A flow is what routing looks at: both ends of one connection, and the listener it came in by. */
import { type Address, formatAddress } from "./address.ts";

export interface Flow {
  readonly local: Address;
  readonly localPort: number;
  readonly remote: Address;
  readonly remotePort: number;
  /** Index of the listener in the configuration. */
  readonly listener: number;
}

/** `[remote]:port -> [local]:port`, the order in which the connection was made. */
export function formatFlow(flow: Flow): string {
  return `${formatEndpoint(flow.remote, flow.remotePort)} -> ${formatEndpoint(flow.local, flow.localPort)}`;
}

export function formatEndpoint(address: Address, port: number): string {
  return `[${formatAddress(address)}]:${port}`;
}
