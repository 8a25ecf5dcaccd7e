/** Words that both languages have: numbers, ports and addresses, from text to value. */
import {
  type Address,
  type AddressPattern,
  formatPattern,
  hasHostBits,
  isDotted,
  masked,
  parseAddress,
  prefixMask,
} from "../model/address.ts";
import type { PortRange } from "../routing/draft.ts";
import { Fault, quoted, shown } from "./fault.ts";

/** The ports that a connection can have. */
export const PORT_FIRST = 1;
export const PORT_LAST = 65535;
/** Descriptors are C ints. */
export const FD_LAST = 0x7fffffff;

const EVERY_BIT = prefixMask(128);
/** Where the four bytes of an IPv4 address begin in its mapped form. */
const MAPPED_START = 12;

/**
 * What is wrong with a text that does not mean what it looks like: the kernel would read it up to a NUL, a terminal
 * would obey it, and a log would have two lines of it.
 */
export function controlFault(name: string, text: string): Fault | undefined {
  if (!/[\p{Cc}\u2028\u2029]/u.test(text)) return undefined;
  return new Fault(`${name} ${quoted(text)} has a control character`, "characters that can be seen");
}

/** Decimal digits alone: with a sign, a leading zero, a space or a letter, something else may have been meant. */
export function parseNumber(name: string, text: string, first: number, last: number): number | Fault {
  const expected = `${first} to ${last}`;
  if (!/^(0|[1-9]\d*)$/.test(text)) {
    return new Fault(`${name} ${quoted(text)} is not a plain decimal number`, expected);
  }
  const value = Number(text);
  return value >= first && value <= last
    ? value
    : new Fault(`${name} ${shown(text)} is out of range`, expected);
}

export function parsePort(name: string, text: string): number | Fault {
  return parseNumber(name, text, PORT_FIRST, PORT_LAST);
}

/** `FIRST-LAST`, or one port. */
export function parsePorts(name: string, text: string): PortRange | Fault {
  const dash = text.indexOf("-");
  const first = parsePort(name, dash < 0 ? text : text.slice(0, dash));
  const last = dash < 0 ? first : parsePort(name, text.slice(dash + 1));
  if (first instanceof Fault) return first;
  if (last instanceof Fault) return last;
  if (first > last) return new Fault(`${name} ${quoted(text)} counts down`, `"${last}-${first}"`);
  return { first, last };
}

/** `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASKADDRESS`. */
export function parsePattern(name: string, text: string): AddressPattern | Fault {
  const slash = text.indexOf("/");
  const written = slash < 0 ? text : text.slice(0, slash);
  const address = parseAddress(written);
  if (!address) return notAnAddress(name, written);
  if (slash < 0) return { address, mask: EVERY_BIT };
  const mask = parseMask(`${name} mask`, text.slice(slash + 1), isDotted(written));
  return mask instanceof Fault ? mask : { address, mask };
}

/** `ADDRESS` or `ADDRESS%SCOPE`; `scopeOf` reads the latter. Without it, the scope is 0. */
export function parseScoped(
  name: string,
  text: string,
  scopeOf: (text: string) => number | Fault,
): { readonly address: Address; readonly scope: number } | Fault {
  const [written = "", scopeText, ...others] = text.split("%");
  const address = others.length === 0 ? parseAddress(written) : undefined;
  if (!address) return notAnAddress(name, text);
  const scope = scopeText === undefined ? 0 : scopeOf(scopeText);
  return scope instanceof Fault ? scope : { address, scope };
}

function notAnAddress(name: string, text: string): Fault {
  return new Fault(`${name} ${quoted(text)} is not an address`, "an IPv6 or a dotted IPv4 address");
}

/** What is wrong with a pattern that has bits which its mask does not compare; most likely one of the two is a slip. */
export function hostBitsFault(name: string, pattern: AddressPattern): Fault | undefined {
  if (pattern.mask === EVERY_BIT || !hasHostBits(pattern)) return undefined;
  const { address, mask } = withoutHostBits(pattern);
  const expected = formatPattern({ address, mask });
  return new Fault(`${name} ${formatPattern(pattern)} has bits that its mask does not compare`, expected);
}

export function withoutHostBits({ address, mask }: AddressPattern): AddressPattern {
  return { address: masked(address, mask), mask };
}

/** A mask counts and is written as its address is: the /8 and the /255.0.0.0 of a dotted one both mean 10.x.y.z. */
function parseMask(name: string, text: string, dotted: boolean): Uint8Array | Fault {
  if (!/[.:]/.test(text)) {
    const length = parseNumber(`${name} length`, text, 0, dotted ? 32 : 128);
    return length instanceof Fault ? length : prefixMask(dotted ? 8 * MAPPED_START + length : length);
  }
  const mask = parseAddress(text);
  if (!mask || isDotted(text) !== dotted) {
    const expected = dotted
      ? "a length, 0 to 32, or a dotted mask"
      : "a length, 0 to 128, or a mask as an IPv6 address";
    return new Fault(`${name} ${quoted(text)} does not fit the address`, expected);
  }
  return dotted ? mask.fill(0xff, 0, MAPPED_START) : mask;
}
