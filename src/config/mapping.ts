/**
 * The SPECs of socketbox-preload, `[ADDRESS:]PORT[-PORT]=WHAT`, and the compact form that the preload library reads
 * (cshim/preload/decide.h describes it): what is hard to read is read here, once.
 */
import { type Address, formatPlain, isMapped, parseAddress } from "../model/address.ts";
import { UNIX_PATH_MAX } from "../model/target.ts";

export type MappingAction =
  /** Connections are received at this path, or `@name`; `{port}` in it becomes the port bound. */
  | { readonly kind: "receive"; readonly path: string }
  /** The real bind. */
  | { readonly kind: "direct" }
  /** bind fails with this error. */
  | { readonly kind: "deny"; readonly error: DenyError };

export interface Mapping {
  /** `undefined`: any. A wildcard address matches a bind to itself. */
  readonly address: Address | undefined;
  readonly first: number;
  readonly last: number;
  readonly action: MappingAction;
}

/** What bind(2) says of a port that is denied, by its number on Linux. */
const DENY_ERRORS = { EACCES: 13, EADDRINUSE: 98 } as const;
export type DenyError = keyof typeof DENY_ERRORS;

/** As many as the library has room for (MAX_RULES in decide.h), the last of which is for all other addresses. */
export const MAX_MAPPINGS = 127;
/** TEMPLATE_ROOM in decide.h, less its NUL. */
const TEMPLATE_MAX = 159;

/** A mapping, or what is wrong with the text. Relative paths are meant from `folder`. */
export function parseMapping(text: string, folder: string): Mapping | string {
  const equals = text.indexOf("=");
  if (equals < 0) return "there is no = in it; expected [ADDRESS:]PORT=PATH";
  const endpoint = parseRange(text.slice(0, equals));
  if (typeof endpoint === "string") return endpoint;
  const action = parseAction(text.slice(equals + 1), folder);
  if (typeof action === "string") return action;
  if (action.kind === "receive") {
    const fault = pathFault(action.path, endpoint);
    if (fault) return fault;
  }
  return { ...endpoint, action };
}

/** `[ADDRESS:]PORT[-PORT]`, ADDRESS being `*`, an IPv4 address, or an IPv6 address in brackets. */
export function parseRange(text: string): Pick<Mapping, "address" | "first" | "last"> | string {
  const found = /^(?:(\*|\[[^\]]*\]|[^:[\]]*):)?([^:[\]]*)$/.exec(text);
  if (!found)
    return `${JSON.stringify(text)} is no address and port; expected such as 80, 192.0.2.1:80 or [::1]:80`;
  const [, host, ports = ""] = found;
  const address = host === undefined || host === "*" ? undefined : parseHost(host);
  if (host !== undefined && host !== "*" && !address)
    return `${JSON.stringify(host)} is not an address; expected *, one such as 192.0.2.1, or [::1]`;
  const [first, last = first, ...more] = ports.split("-").map(parsePort);
  if (first === undefined || last === undefined || more.length > 0)
    return `${JSON.stringify(ports)} is not a port; expected 0 to 65535, or two such as 8000-8010`;
  if (first > last) return `${ports} ends before it begins`;
  return { address, first, last };
}

/** How a mapping's address and ports are written. */
export function formatRange({ address, first, last }: Pick<Mapping, "address" | "first" | "last">): string {
  const host = !address ? "*" : isMapped(address) ? formatPlain(address) : `[${formatPlain(address)}]`;
  return `${host}:${first === last ? first : `${first}-${last}`}`;
}

/** Which mapping is never reached because an earlier one takes all that it would; `undefined`: none. */
export function unreachable(mappings: readonly Mapping[]): { late: Mapping; early: Mapping } | undefined {
  for (const [index, late] of mappings.entries()) {
    const early = mappings.slice(0, index).find((earlier) => covers(earlier, late));
    if (early) return { late, early };
  }
  return undefined;
}

/** The value of SOCKETBOX_MAP for the library. */
export function formatMap(mappings: readonly Mapping[]): string {
  return mappings.map((mapping) => `${formatLine(mapping)}\n`).join("");
}

/** Whether the text is in the compact form already, as in a program that was itself started under the library. */
export function isCompact(text: string): boolean {
  return /^(?:(?:\*|[0-9a-f]{32}) \d+ \d+ (?:x|d \d+|[rs] [^\n]+)\n)*$/.test(text);
}

function formatLine({ address, first, last, action }: Mapping): string {
  const host = address ? Buffer.from(address).toString("hex") : "*";
  const what =
    action.kind === "receive"
      ? `r ${action.path}`
      : action.kind === "deny"
        ? `d ${DENY_ERRORS[action.error]}`
        : "x";
  return `${host} ${first} ${last} ${what}`;
}

function parseHost(text: string): Address | undefined {
  const bracketed = /^\[(.*)\]$/.exec(text)?.[1];
  if (bracketed !== undefined) return bracketed.includes(":") ? parseAddress(bracketed) : undefined;
  return text.includes(":") ? undefined : parseAddress(text);
}

function parsePort(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 65536;
  return port < 65536 ? port : undefined;
}

function parseAction(text: string, folder: string): MappingAction | string {
  if (text === "direct") return { kind: "direct" };
  const [word, error = "EACCES", ...more] = text.split(":");
  if (word === "deny") {
    if (more.length === 0 && Object.hasOwn(DENY_ERRORS, error))
      return { kind: "deny", error: error as DenyError };
    return `${JSON.stringify(text)} is no refusal; expected deny, deny:EACCES or deny:EADDRINUSE`;
  }
  if (text.startsWith("/") || text.startsWith("@")) return { kind: "receive", path: text };
  if (!text.includes("/"))
    return `${JSON.stringify(text)} is not a path; expected /PATH, ./PATH, @NAME, deny or direct`;
  return { kind: "receive", path: `${folder}/${text}` };
}

function pathFault(path: string, { first, last }: { first: number; last: number }): string | undefined {
  if (/[\n\0]/.test(path)) return `${JSON.stringify(path)} has a line break or a NUL in it`;
  if (path === "@") return "@ alone names nothing; expected @NAME";
  if (first !== last && !path.includes("{port}"))
    return `all ports of ${first}-${last} would lead to one socket; expected {port} in ${JSON.stringify(path)}`;
  const longest = Buffer.byteLength(path.replaceAll("{port}", String(first === 0 ? 65535 : last)));
  if (longest > UNIX_PATH_MAX || Buffer.byteLength(path) > TEMPLATE_MAX)
    return `the path has ${longest} bytes; at most ${UNIX_PATH_MAX} are possible`;
  return undefined;
}

function covers(early: Mapping, late: Mapping): boolean {
  const address =
    !early.address || (late.address !== undefined && Buffer.from(early.address).equals(late.address));
  return address && early.first <= late.first && early.last >= late.last;
}
