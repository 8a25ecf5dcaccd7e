/**
 * A flow as ten 32-bit words, laid out as `struct sb_flow` in cshim/socketbox.h, so that what the kernel
 * reported is looked up where it lies:
 *
 *     0-3  local address, bytes in network order
 *     4-7  remote address, bytes in network order
 *     8    local port, and the remote port in the upper half
 *     9    the connection's descriptor; routing takes the index of its listener for this word instead
 */
import { ADDRESS_BYTES } from "../model/address.ts";
import type { Flow } from "../model/flow.ts";

export const FLOW_WORDS = 10;
export const LOCAL_WORD = 0;
export const REMOTE_WORD = 4;
export const PORTS_WORD = 8;
export const LISTENER_WORD = 9;

/** A record without a descriptor. */
export function flowWords(flow: Flow): Uint32Array {
  const words = new Uint32Array(FLOW_WORDS);
  const bytes = new Uint8Array(words.buffer);
  bytes.set(flow.local, 0);
  bytes.set(flow.remote, ADDRESS_BYTES);
  words[PORTS_WORD] = portsWord(flow.localPort, flow.remotePort);
  words[LISTENER_WORD] = -1;
  return words;
}

/** The flow whose record starts at word `at`; its addresses are copies. */
export function flowOf(flows: Uint32Array, at: number, listener: number): Flow {
  const start = flows.byteOffset + at * Uint32Array.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(flows.buffer, start, 2 * ADDRESS_BYTES).slice();
  const ports = flows[at + PORTS_WORD]!;
  return {
    local: bytes.subarray(0, ADDRESS_BYTES),
    remote: bytes.subarray(ADDRESS_BYTES),
    localPort: ports & 0xffff,
    remotePort: ports >>> 16,
    listener,
  };
}

/** Puts other ends into the record that starts at word `at`; its last word stays. */
export function setEnds(flows: Uint32Array, at: number, ends: Omit<Flow, "listener">): void {
  const start = flows.byteOffset + at * Uint32Array.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(flows.buffer, start, 2 * ADDRESS_BYTES);
  bytes.set(ends.local, 0);
  bytes.set(ends.remote, ADDRESS_BYTES);
  flows[at + PORTS_WORD] = portsWord(ends.localPort, ends.remotePort);
}

export function portsWord(local: number, remote: number): number {
  return (local | (remote << 16)) >>> 0;
}
