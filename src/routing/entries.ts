/**
 * A route with alternatives is many entries: each is one combination of them, and compares the ten words of a
 * flow with a key under a mask. Hash tables know no ranges, so a port range becomes aligned blocks.
 */
import type { AddressPattern } from "../model/address.ts";
import type { DraftRoute, PortRange } from "./draft.ts";
import { FLOW_WORDS, LISTENER_WORD, LOCAL_WORD, PORTS_WORD, portsWord, REMOTE_WORD } from "./record.ts";
import { rankOf } from "./table.ts";

/** Ports that equal `port` in the bits of `mask`. */
interface PortBlock {
  readonly port: number;
  readonly mask: number;
}

/** The entries of one table in the order of its routes; columns, for a million objects would be slow. */
export interface Entries {
  /** Ten words for each entry. */
  readonly keys: Uint32Array;
  /** The rank of its route. */
  readonly ranks: Uint32Array;
  /** Its mask, as an index in `masks`. */
  readonly maskOf: Uint32Array;
  /** The different masks, ten words each, in the order in which entries first have them. */
  readonly masks: readonly Uint32Array[];
}

/** What stands in for a list without alternatives: one that compares nothing. */
const ANY_ADDRESS: readonly AddressPattern[] = [{ address: new Uint8Array(16), mask: new Uint8Array(16) }];
const ANY_PORT: readonly PortBlock[] = [{ port: 0, mask: 0 }];
const ANY_LISTENER: readonly number[] = [0];

/** How many entries the route has; to be known before they are made. */
export function countEntries({ local, localPorts, remote, remotePorts, listeners }: DraftRoute): number {
  const addresses = Math.max(1, local.length) * Math.max(1, remote.length);
  const ports = portBlocks(localPorts).length * portBlocks(remotePorts).length;
  return addresses * ports * Math.max(1, listeners.length);
}

export function expandRoutes(routes: readonly DraftRoute[]): Entries {
  const count = routes.reduce((total, route) => total + countEntries(route), 0);
  const keys = new Uint32Array(count * FLOW_WORDS);
  const ranks = new Uint32Array(count);
  const maskOf = new Uint32Array(count);
  const masks = new MaskList();
  const key = new Uint32Array(FLOW_WORDS);
  const mask = new Uint32Array(FLOW_WORDS);
  let n = 0;
  for (let i = 0; i < routes.length; i++) {
    forEachCombination(routes[i]!, key, mask, () => {
      for (let word = 0; word < FLOW_WORDS; word++) keys[n * FLOW_WORDS + word] = key[word]!;
      ranks[n] = rankOf(i, routes);
      maskOf[n] = masks.indexOf(mask);
      n++;
    });
  }
  return { keys, ranks, maskOf, masks: masks.list };
}

/** The fewest blocks that hold exactly these ports: at most 30 for a range, one for one port or for all. */
export function portBlocks(ranges: readonly PortRange[]): readonly PortBlock[] {
  if (ranges.length === 0) return ANY_PORT;
  const blocks: PortBlock[] = [];
  for (const { first, last } of ranges) {
    for (let port = first; port <= last; ) {
      let size = port === 0 ? 0x10000 : port & -port;
      while (port + size - 1 > last) size /= 2;
      blocks.push({ port, mask: 0x10000 - size });
      port += size;
    }
  }
  return blocks;
}

/** Fills `key` and `mask` with one combination after the other, and calls back for each. */
function forEachCombination(
  route: DraftRoute,
  key: Uint32Array,
  mask: Uint32Array,
  callback: () => void,
): void {
  const locals = orAny(route.local, ANY_ADDRESS);
  const remotes = orAny(route.remote, ANY_ADDRESS);
  const localPorts = portBlocks(route.localPorts);
  const remotePorts = portBlocks(route.remotePorts);
  const listeners = orAny(route.listeners, ANY_LISTENER);
  mask[LISTENER_WORD] = route.listeners.length === 0 ? 0 : 0xffffffff;
  for (const local of locals) {
    setAddress(key, mask, LOCAL_WORD, local);
    for (const remote of remotes) {
      setAddress(key, mask, REMOTE_WORD, remote);
      for (const localPort of localPorts) {
        for (const remotePort of remotePorts) {
          key[PORTS_WORD] = portsWord(localPort.port, remotePort.port);
          mask[PORTS_WORD] = portsWord(localPort.mask, remotePort.mask);
          for (const listener of listeners) {
            key[LISTENER_WORD] = listener;
            callback();
          }
        }
      }
    }
  }
}

function setAddress(key: Uint32Array, mask: Uint32Array, word: number, pattern: AddressPattern): void {
  for (let i = 0; i < 4; i++) {
    const bits = littleEndian(pattern.mask, i * 4);
    mask[word + i] = bits;
    key[word + i] = littleEndian(pattern.address, i * 4) & bits;
  }
}

function littleEndian(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

function orAny<T>(alternatives: readonly T[], any: readonly T[]): readonly T[] {
  return alternatives.length === 0 ? any : alternatives;
}

/** Different masks, each once. */
class MaskList {
  readonly list: Uint32Array[] = [];
  readonly #known = new Map<string, number>();
  #last = 0;

  /** The index of `mask` in the list, to which it is added if need be. */
  indexOf(mask: Uint32Array): number {
    // Routes in a row have mostly the same mask: this saves the slow way.
    const last = this.list[this.#last];
    if (last && equal(last, mask)) return this.#last;
    const text = mask.join();
    const index = this.#known.get(text) ?? this.list.length;
    if (index === this.list.length) {
      this.list.push(mask.slice());
      this.#known.set(text, index);
    }
    this.#last = index;
    return index;
  }
}

function equal(a: Uint32Array, b: Uint32Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
