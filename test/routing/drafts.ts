/** Short ways to write drafts and flows in tests. */
import { type AddressPattern, isDotted, parseAddress, prefixMask } from "../../src/model/address.ts";
import type { Flow } from "../../src/model/flow.ts";
import { type Target, targetOf } from "../../src/model/target.ts";
import type { Action, Draft, DraftRoute, DraftTable } from "../../src/routing/draft.ts";

const FILE = "test.toml";

/** `to` is `deny`, `table:NAME` or the path of a target. */
export function route(to: string, parts: Partial<DraftRoute> = {}): DraftRoute {
  const nothing = { local: [], localPorts: [], remote: [], remotePorts: [], listeners: [] };
  return { place: { file: FILE, line: 0, column: 0 }, ...nothing, action: actionOf(to), ...parts };
}

/** A draft whose nth table stands at line 100 n, with its routes on the lines after that. */
export function draft(tables: Record<string, readonly DraftRoute[]>): Draft {
  return { tables: Object.entries(tables).map(([name, routes], index) => table(name, routes, index + 1)) };
}

function table(name: string, routes: readonly DraftRoute[], n: number): DraftTable {
  const place = (line: number) => ({ file: FILE, line: n * 100 + line, column: 1 });
  return { name, place: place(0), routes: routes.map((route, i) => ({ ...route, place: place(i + 1) })) };
}

/** `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASKADDRESS`. */
export function pattern(text: string): AddressPattern {
  const [address, mask] = text.split("/");
  if (mask?.includes(":")) return { address: parsed(address!), mask: parsed(mask) };
  const length = mask === undefined ? 128 : Number(mask) + (isDotted(address!) ? 96 : 0);
  return { address: parsed(address!), mask: prefixMask(length) };
}

export function port(first: number, last = first) {
  return { first, last };
}

/** From a far client to port 80 of 2001:db8::1 by the first listener, unless said otherwise. */
export function flow(
  parts: { local?: string; remote?: string } & Partial<Omit<Flow, "local" | "remote">> = {},
): Flow {
  const { local = "2001:db8::1", remote = "2001:db8:ffff::9", ...rest } = parts;
  const ends = { local: parsed(local), localPort: 80, remote: parsed(remote), remotePort: 40000 };
  return { ...ends, listener: 0, ...rest };
}

const targets = new Map<string, Target>();

/** The one target of this path. */
export function target(path: string): Target {
  const known = targets.get(path) ?? targetOf({ kind: "unix", path });
  targets.set(path, known);
  return known;
}

function actionOf(to: string): Action {
  if (to === "deny") return { kind: "deny" };
  if (to.startsWith("table:")) return { kind: "table", table: to.slice(6) };
  return { kind: "target", target: target(to) };
}

function parsed(text: string): Uint8Array {
  const address = parseAddress(text);
  if (!address) throw new Error(`not an address: ${text}`);
  return address;
}
