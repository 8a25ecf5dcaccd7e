/**
 * The PROXY protocol, versions 1 and 2 (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt): a header in
 * front of a connection's bytes that names the ends of the connection it was relayed from.
 */
import {
  ADDRESS_BYTES,
  type Address,
  formatPlain,
  isDotted,
  isMapped,
  parseAddress,
} from "../model/address.ts";

export type ProxyVersion = 1 | 2;

/** Both ends of the relayed connection: `remote` is the client, `local` where it connected to. */
export interface ProxyEnds {
  readonly local: Address;
  readonly localPort: number;
  readonly remote: Address;
  readonly remotePort: number;
}

/** What version 2 says beside the addresses; version 1 has no room for it. */
export interface ProxyExtras {
  /** PP2_TYPE_UNIQUE_ID: at most 128 bytes. */
  readonly uniqueId?: Uint8Array;
  /** PP2_TYPE_NETNS: name of a network namespace. */
  readonly netns?: string;
}

export interface ProxyHeader extends ProxyExtras {
  readonly version: ProxyVersion;
  /** Bytes of the header; what follows is the connection's own. */
  readonly length: number;
  /** Absent where the header names none that we can use (UNKNOWN, LOCAL, Unix): the real ones hold. */
  readonly ends?: ProxyEnds;
}

export type Decoded =
  | { readonly kind: "header"; readonly header: ProxyHeader }
  /** A header may have begun, and has not ended. */
  | { readonly kind: "partial" }
  /** The connection does not begin with a header. */
  | { readonly kind: "none" }
  /** It begins like a header, and is not a good one. */
  | { readonly kind: "bad"; readonly what: string };

/** The longest line of version 1, its end included. */
const LINE_MAX = 107;
const LINE_START = Buffer.from("PROXY ");
const SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const FIXED_BYTES = 16;

/**
 * The longest header that is read. Version 2 could go up to 65,551 bytes; what senders add in practice, names and
 * certificates' subjects, takes some hundred.
 */
export const PROXY_HEADER_MAX = 4096;

/** Family and transport of version 2: the ones with addresses that a TCP connection can have. */
const TCP4 = 0x11;
const TCP6 = 0x21;
const UNSPECIFIED = 0x00;
/** Bytes of each known family's address block. */
const BLOCK_BYTES: Readonly<Record<number, number>> = {
  [UNSPECIFIED]: 0,
  [TCP4]: 12,
  18: 12,
  [TCP6]: 36,
  34: 36,
  49: 216,
  50: 216,
};
const TYPE = { crc32c: 0x03, uniqueId: 0x05, netns: 0x30 } as const;
const UNIQUE_ID_MAX = 128;

/** A header for a connection with these ends; without any (a Unix socket has none) it says that they are unknown. */
export function encodeProxy(
  version: ProxyVersion,
  ends: ProxyEnds | undefined,
  extras: ProxyExtras = {},
): Uint8Array {
  return version === 1 ? encodeLine(ends) : encodeBinary(ends, extras);
}

/** Looks for a header at the start of `bytes`, which may be only the first of what a client sends. */
export function decodeProxy(bytes: Uint8Array): Decoded {
  if (bytes.length === 0) return { kind: "partial" };
  const isLine = startsLike(bytes, LINE_START);
  if (!isLine && !startsLike(bytes, SIGNATURE)) return { kind: "none" };
  return isLine ? decodeLine(bytes) : decodeBinary(bytes);
}

function encodeLine(ends: ProxyEnds | undefined): Uint8Array {
  if (!ends) return Buffer.from("PROXY UNKNOWN\r\n");
  const { local, localPort, remote, remotePort } = ends;
  const plain = isMapped(local) && isMapped(remote);
  const family = plain ? "TCP4" : "TCP6";
  const text = plain ? formatPlain : formatGroups;
  return Buffer.from(`PROXY ${family} ${text(remote)} ${text(local)} ${remotePort} ${localPort}\r\n`);
}

/** Version 1 knows hexadecimal groups only, so that a mapped address beside a true IPv6 one has no dots. */
function formatGroups(address: Address): string {
  if (!isMapped(address)) return formatPlain(address);
  const [a, b, c, d] = address.subarray(12);
  return `::ffff:${((a! << 8) | b!).toString(16)}:${((c! << 8) | d!).toString(16)}`;
}

function encodeBinary(ends: ProxyEnds | undefined, { uniqueId, netns }: ProxyExtras): Uint8Array {
  const plain = ends !== undefined && isMapped(ends.local) && isMapped(ends.remote);
  const family = ends === undefined ? UNSPECIFIED : plain ? TCP4 : TCP6;
  const from = plain ? 12 : 0;
  const block = ends
    ? [
        ...ends.remote.subarray(from),
        ...ends.local.subarray(from),
        ...u16(ends.remotePort),
        ...u16(ends.localPort),
      ]
    : [];
  const rest = [
    ...block,
    ...(uniqueId ? record(TYPE.uniqueId, uniqueId) : []),
    ...(netns === undefined ? [] : record(TYPE.netns, Buffer.from(netns))),
  ];
  return Uint8Array.from([...SIGNATURE, 0x21, family, ...u16(rest.length), ...rest]);
}

function record(type: number, value: Uint8Array): number[] {
  return [type, ...u16(value.length), ...value];
}

function u16(value: number): [number, number] {
  return [value >> 8, value & 0xff];
}

function decodeLine(bytes: Uint8Array): Decoded {
  const start = Buffer.from(bytes.subarray(0, LINE_MAX)).toString("latin1");
  const end = start.indexOf("\r\n");
  if (end < 0) {
    return bytes.length < LINE_MAX
      ? { kind: "partial" }
      : { kind: "bad", what: `version 1: no end of line within ${LINE_MAX} bytes` };
  }
  const length = end + 2;
  const [, family, ...fields] = start.slice(0, end).split(" ");
  // What follows UNKNOWN is to be ignored.
  if (family === "UNKNOWN") return { kind: "header", header: { version: 1, length } };
  const ends = family === "TCP4" || family === "TCP6" ? lineEnds(family, fields) : undefined;
  if (!ends) return { kind: "bad", what: "version 1: not TCP4 or TCP6 with two addresses and two ports" };
  return { kind: "header", header: { version: 1, length, ends } };
}

function lineEnds(family: string, fields: readonly string[]): ProxyEnds | undefined {
  const [from = "", to = "", fromPort = "", toPort = "", ...others] = fields;
  const dotted = family === "TCP4";
  if (others.length > 0 || isDotted(from) !== dotted || isDotted(to) !== dotted) return undefined;
  const [remote, local] = [parseAddress(from), parseAddress(to)];
  const [remotePort, localPort] = [linePort(fromPort), linePort(toPort)];
  if (!remote || !local || remotePort === undefined || localPort === undefined) return undefined;
  return { local, localPort, remote, remotePort };
}

function linePort(text: string): number | undefined {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 0xffff ? Number(text) : undefined;
}

function decodeBinary(bytes: Uint8Array): Decoded {
  if (bytes.length < FIXED_BYTES) return { kind: "partial" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const command = view.getUint8(12);
  const family = view.getUint8(13);
  const length = FIXED_BYTES + view.getUint16(14);
  if (command >> 4 !== 2) return bad(`version ${command >> 4}`);
  if ((command & 0xf) > 1) return bad(`command ${command & 0xf}`);
  if (length > PROXY_HEADER_MAX) return bad(`${length} bytes, more than ${PROXY_HEADER_MAX}`);
  if (bytes.length < length) return { kind: "partial" };
  // LOCAL: the sender speaks for itself, and its family and addresses are to be ignored.
  const isLocal = (command & 0xf) === 0;
  if (isLocal) return { kind: "header", header: { version: 2, length } };
  const block = BLOCK_BYTES[family];
  if (block === undefined) return bad(`family 0x${family.toString(16).padStart(2, "0")}`);
  if (length < FIXED_BYTES + block) return bad(`${length - FIXED_BYTES} bytes are too few for its addresses`);
  const extras = decodeRecords(bytes.subarray(0, length), FIXED_BYTES + block);
  if (typeof extras === "string") return bad(extras);
  const ends = blockEnds(view, family);
  return { kind: "header", header: { version: 2, length, ...(ends && { ends }), ...extras } };
}

function bad(what: string): Decoded {
  return { kind: "bad", what: `version 2: ${what}` };
}

function blockEnds(view: DataView, family: number): ProxyEnds | undefined {
  if (family !== TCP4 && family !== TCP6) return undefined;
  const size = family === TCP4 ? 4 : ADDRESS_BYTES;
  const at = FIXED_BYTES;
  return {
    remote: blockAddress(view, at, size),
    local: blockAddress(view, at + size, size),
    remotePort: view.getUint16(at + 2 * size),
    localPort: view.getUint16(at + 2 * size + 2),
  };
}

function blockAddress(view: DataView, at: number, size: number): Address {
  const address = new Uint8Array(ADDRESS_BYTES);
  if (size === 4) address.fill(0xff, 10, 12);
  address.set(new Uint8Array(view.buffer, view.byteOffset + at, size), ADDRESS_BYTES - size);
  return address;
}

/** The records (TLVs) from `at` to the end of the header, or what is wrong with them. */
function decodeRecords(header: Uint8Array, at: number): ProxyExtras | string {
  let extras: ProxyExtras = {};
  let start = at;
  while (start < header.length) {
    const end =
      start + 3 > header.length ? Infinity : start + 3 + ((header[start + 1]! << 8) | header[start + 2]!);
    if (end > header.length) return "a record goes beyond the end";
    const value = Uint8Array.from(header.subarray(start + 3, end)); // a copy, of a Buffer too
    const type = header[start]!;
    if (type === TYPE.crc32c && !hasChecksum(header, start + 3, value)) return "the checksum is wrong";
    if (type === TYPE.uniqueId && value.length > UNIQUE_ID_MAX)
      return `a unique id of ${value.length} bytes, more than ${UNIQUE_ID_MAX}`;
    if (type === TYPE.uniqueId) extras = { ...extras, uniqueId: value };
    if (type === TYPE.netns) extras = { ...extras, netns: Buffer.from(value).toString("latin1") };
    start = end;
  }
  return extras;
}

/** The checksum is taken over the whole header, with itself as zeros. */
function hasChecksum(header: Uint8Array, at: number, value: Uint8Array): boolean {
  if (value.length !== 4) return false;
  const zeroed = Uint8Array.from(header);
  zeroed.fill(0, at, at + 4);
  return new DataView(value.buffer).getUint32(0) === crc32c(zeroed);
}

/** RFC 3720, appendix B.4; bit by bit, because a header is short and its checksum rare. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** Whether `bytes` begins with `start`, as far as either goes. */
function startsLike(bytes: Uint8Array, start: Uint8Array): boolean {
  const length = Math.min(bytes.length, start.length);
  for (let i = 0; i < length; i++) if (bytes[i] !== start[i]) return false;
  return true;
}
