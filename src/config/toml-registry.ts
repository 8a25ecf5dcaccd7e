/** `[[registry]]` of the TOML language: where receivers register, and who may take which slot. */
import type { Allowance, RegistrySettings } from "./configuration.ts";
import { REGISTRY_DEFAULTS } from "./configuration.ts";
import { Fault, quoted } from "./fault.ts";
import { isRelative, pathFault } from "./path.ts";
import type { Way } from "./places.ts";
import type { Document } from "./schema.ts";

type Registry = NonNullable<Document["registry"]>[number];
type Allow = NonNullable<Registry["allow"]>[number];

export interface RegistryReader {
  /** The number of a slot that is written as a number or a name. */
  slot(text: string): number | Fault;
  fault(way: Way, fault: Fault): void;
}

export function readRegistries(
  registries: readonly (Registry | undefined)[],
  reader: RegistryReader,
): RegistrySettings[] {
  const paths = new Set<string>();
  return registries.flatMap((registry, index) => {
    const way = ["registry", index];
    if (registry?.path === undefined || !registry.allow) return []; // reported by its shape
    const { path } = registry;
    const fault = faultOf(path, paths);
    if (fault) reader.fault([...way, "path"], fault);
    paths.add(path);
    return [readRegistry(registry, way, reader)];
  });
}

function faultOf(path: string, others: ReadonlySet<string>): Fault | undefined {
  if (path !== "" && isRelative(path)) return new Fault(`path ${quoted(path)} is relative`, "/path or @name");
  return others.has(path)
    ? new Fault(`a second registry at ${quoted(path)}`, "each path once")
    : pathFault(path);
}

function readRegistry(registry: Registry, way: Way, reader: RegistryReader): RegistrySettings {
  const { path, owner, group, mode } = registry;
  return {
    path,
    ...(owner !== undefined && { owner: String(owner) }),
    ...(group !== undefined && { group: String(group) }),
    mode: mode === undefined ? REGISTRY_DEFAULTS.mode : Number.parseInt(mode, 8),
    perUser: registry["per-user"] ?? REGISTRY_DEFAULTS.perUser,
    allow: registry.allow.flatMap((allow: Allow | undefined, index) =>
      allow?.slot === undefined ? [] : [readAllowance(allow, [...way, "allow", index], reader)],
    ),
  };
}

function readAllowance(allow: Allow, way: Way, reader: RegistryReader): Allowance {
  const slots = list(allow.slot).flatMap((written, index) => {
    if (written === undefined) return []; // pruned
    const slot = reader.slot(String(written));
    if (!(slot instanceof Fault)) return [slot];
    reader.fault(typeof allow.slot === "object" ? [...way, "slot", index] : [...way, "slot"], slot);
    return [];
  });
  return {
    slots,
    ...(allow.user !== undefined && { users: list(allow.user).map(String) }),
    takeover: allow.takeover ?? false,
  };
}

function list<Item extends string | number>(value: Item | readonly Item[]): readonly Item[] {
  return typeof value === "object" ? value : [value];
}
