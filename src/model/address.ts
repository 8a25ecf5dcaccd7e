/**
 * Addresses are 16 bytes in network order; an IPv4 address is its v4-mapped form ::ffff:a.b.c.d
 * (RFC 4291, section 2.5.5.2). A {@link Mask} says which of the 128 bits count.
 */

/** 16 bytes, network order. */
export type Address = Uint8Array;

/** What an address is compared with: equal in every bit that is set in `mask`. */
export interface AddressPattern {
  readonly address: Address;
  readonly mask: Address;
}

export const ADDRESS_BYTES = 16;
const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** The address written in `text`, IPv6 (RFC 4291, 2.2) or dotted IPv4; `undefined` when it is neither. */
export function parseAddress(text: string): Address | undefined {
  if (!text.includes(":")) {
    const four = parseDotted(text);
    return four && Uint8Array.from([...MAPPED_PREFIX, ...four]);
  }
  return parseIpv6(text);
}

/** Whether `text` is written in the dotted form of IPv4, where a prefix length counts 32 bits instead of 128. */
export function isDotted(text: string): boolean {
  return !text.includes(":");
}

/** As RFC 5952 wants it: lower case, the longest run of zeros as `::`, mapped addresses with dots. */
export function formatAddress(address: Address): string {
  if (isMapped(address)) return `::ffff:${formatDotted(address)}`;
  const groups = groupsOf(address);
  const run = longestZeroRun(groups);
  if (run.length < 2) return groups.map(hex).join(":");
  const before = groups.slice(0, run.start).map(hex).join(":");
  const after = groups
    .slice(run.start + run.length)
    .map(hex)
    .join(":");
  return `${before}::${after}`;
}

/** A mapped address as plain IPv4, any other as {@link formatAddress} writes it. */
export function formatPlain(address: Address): string {
  return isMapped(address) ? formatDotted(address) : formatAddress(address);
}

export function isMapped(address: Address): boolean {
  return MAPPED_PREFIX.every((byte, index) => address[index] === byte);
}

/** The eight 16-bit groups, first to last. */
export function groupsOf(address: Address): number[] {
  const groups: number[] = [];
  for (let i = 0; i < ADDRESS_BYTES; i += 2) groups.push((address[i]! << 8) | address[i + 1]!);
  return groups;
}

/** The mask with the first `length` of 128 bits set. */
export function prefixMask(length: number): Address {
  const mask = new Uint8Array(ADDRESS_BYTES);
  for (let i = 0; i < ADDRESS_BYTES; i++) {
    const bits = Math.min(8, Math.max(0, length - i * 8));
    mask[i] = (0xff << (8 - bits)) & 0xff;
  }
  return mask;
}

/** The prefix length of a mask, or `undefined` when its set bits are not all in front. */
export function prefixLength(mask: Address): number | undefined {
  let length = 0;
  while (length < 128 && mask[length >> 3]! & (0x80 >> (length & 7))) length++;
  const contiguous = prefixMask(length).every((byte, index) => byte === mask[index]);
  return contiguous ? length : undefined;
}

/** `address` with every bit outside `mask` cleared. */
export function masked(address: Address, mask: Address): Address {
  return address.map((byte, index) => byte & mask[index]!);
}

/** Whether `address` has bits set that `mask` does not compare. */
export function hasHostBits({ address, mask }: AddressPattern): boolean {
  return address.some((byte, index) => (byte & ~mask[index]!) !== 0);
}

export function matches(pattern: AddressPattern, address: Address): boolean {
  return pattern.mask.every((byte, i) => ((address[i]! ^ pattern.address[i]!) & byte) === 0);
}

/** `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASKADDRESS`, the way it would be written by hand. */
export function formatPattern({ address, mask }: AddressPattern): string {
  const length = prefixLength(mask);
  if (length === 128) return formatPlain(address);
  if (length !== undefined && length >= 96 && isMapped(address))
    return `${formatDotted(address)}/${length - 96}`;
  return `${formatAddress(address)}/${length ?? formatAddress(mask)}`;
}

function parseDotted(text: string): number[] | undefined {
  const parts = text.split(".");
  const bytes = parts.map((part) => (/^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256));
  return bytes.length === 4 && bytes.every((byte) => byte < 256) ? bytes : undefined;
}

function parseIpv6(text: string): Address | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : [];
  if (!head || !tail) return undefined;
  const missing = ADDRESS_BYTES - head.length - tail.length;
  if (halves.length === 2 ? missing < 2 : missing !== 0) return undefined;
  return Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...tail]);
}

/** The bytes of `a:b:c`; `last` says whether the end of the address, where dots are allowed, is in it. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (last && index === groups.length - 1 && group.includes(".")) {
      const four = parseDotted(group);
      if (!four) return undefined;
      bytes.push(...four);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}

function formatDotted(address: Address): string {
  return address.slice(12).join(".");
}

function hex(group: number): string {
  return group.toString(16);
}
