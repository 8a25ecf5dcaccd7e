/** What a reload changes, in words: `+2 routes, -1, target web now …`. */
import type { ListenerSettings, RegistrySettings } from "../config/configuration.ts";
import { formatEndpoint } from "../model/flow.ts";
import { formatReceiver, type Receiver, type Target } from "../model/target.ts";
import type { Draft, DraftRoute } from "../routing/draft.ts";

export interface Described {
  readonly draft: Draft;
  readonly targets: readonly Target[];
  readonly listeners: readonly ListenerSettings[];
  readonly registries: readonly RegistrySettings[];
}

/** How many of the changed targets are named, so that the line can be read. */
const TARGETS_SHOWN = 5;

/** One line; `nothing changed` when nothing did. */
export function describeDifference(before: Described, after: Described): string {
  const parts = [
    ...listenerDifference(before.listeners, after.listeners),
    ...registryDifference(before.registries, after.registries),
    ...routeDifference(before.draft, after.draft),
    ...targetDifference(before.targets, after.targets),
  ];
  return parts.length > 0 ? parts.join(", ") : "nothing changed";
}

function listenerDifference(
  before: readonly ListenerSettings[],
  after: readonly ListenerSettings[],
): string[] {
  const [had, has] = [before, after].map((list) => new Set(list.map(formatListener)));
  return [
    ...[...has!].filter((listener) => !had!.has(listener)).map((listener) => `+listener ${listener}`),
    ...[...had!].filter((listener) => !has!.has(listener)).map((listener) => `-listener ${listener}`),
  ];
}

function registryDifference(
  before: readonly RegistrySettings[],
  after: readonly RegistrySettings[],
): string[] {
  const had = new Map(before.map((registry) => [registry.path, JSON.stringify(registry)]));
  const has = new Map(after.map((registry) => [registry.path, JSON.stringify(registry)]));
  return [
    ...[...has].flatMap(([path, text]) => {
      if (!had.has(path)) return [`+registry ${path}`];
      return had.get(path) === text ? [] : [`registry ${path} has other rules`];
    }),
    ...[...had.keys()].filter((path) => !has.has(path)).map((path) => `-registry ${path}`),
  ];
}

function formatListener({ name, address, port, netns }: ListenerSettings): string {
  return `${name} ${formatEndpoint(address, port)}${netns === undefined ? "" : ` in ${netns}`}`;
}

function routeDifference(before: Draft, after: Draft): string[] {
  const [had, has] = [before, after].map(routeTexts);
  const left = new Map<string, number>();
  for (const route of had!) left.set(route, (left.get(route) ?? 0) + 1);
  let added = 0;
  for (const route of has!) {
    const count = left.get(route) ?? 0;
    if (count > 0) left.set(route, count - 1);
    else added++;
  }
  const removed = had!.length - (has!.length - added);
  if (added > 0) return [`+${counted(added)}`, ...(removed > 0 ? [`-${removed}`] : [])];
  if (removed > 0) return [`-${counted(removed)}`];
  return had!.every((route, index) => route === has![index]) ? [] : ["routes in another order"];
}

/** Routes with the name of their table, but without their place in the file. */
function routeTexts({ tables }: Draft): string[] {
  return tables.flatMap(({ name, routes }) => routes.map((route) => `${name} ${routeText(route)}`));
}

function routeText({ place: _, action, ...conditions }: DraftRoute): string {
  const to = action.kind === "target" ? action.target.name : action.kind === "table" ? action.table : "";
  return JSON.stringify([conditions, action.kind, to]);
}

function targetDifference(before: readonly Target[], after: readonly Target[]): string[] {
  const had = new Map(before.map((target) => [target.name, target]));
  const changed = after.flatMap((target) => {
    const known = had.get(target.name);
    const settings = known ? settingDifference(known, target) : [];
    return settings.length > 0 ? [`target ${target.name} now ${settings.join(" ")}`] : [];
  });
  const more = changed.length - TARGETS_SHOWN;
  return more > 0 ? [...changed.slice(0, TARGETS_SHOWN), `${more} more targets changed`] : changed;
}

function settingDifference(before: Target, after: Target): string[] {
  const old = before as unknown as Record<string, unknown>;
  return Object.entries(after)
    .filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(old[key]))
    .map(([key, value]) => formatSetting(key, value));
}

function formatSetting(key: string, value: unknown): string {
  if (key === "receivers") return (value as readonly Receiver[]).map(formatReceiver).join(" and ");
  if (typeof value === "boolean") return value ? key : `no ${key}`;
  if (key === "waitMs") return `wait ${Number(value) / 1000}s`;
  return `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`;
}

function counted(count: number): string {
  return `${count} route${count === 1 ? "" : "s"}`;
}
