/** The TOML language: text to document, document to draft. Its shape is in schema.ts, its places in places.ts. */
import type { AddressPattern } from "../model/address.ts";
import { formatEndpoint } from "../model/flow.ts";
import {
  formatReceiver,
  hasBraces,
  type Receiver,
  SIBLINGS_MAX,
  siblingPath,
  type Target,
} from "../model/target.ts";
import type { Action, DraftRoute, DraftTable, PortRange } from "../routing/draft.ts";
import {
  LISTENER_DEFAULTS,
  type ListenerSettings,
  type Reading,
  SERVER_DEFAULTS,
  type ServerSettings,
} from "./configuration.ts";
import { parseDocument, takeOutMisshapes } from "./document.ts";
import { parseDuration } from "./duration.ts";
import { Fault, Findings, quoted, shown } from "./fault.ts";
import { isRelative, pathFault, templateFault } from "./path.ts";
import { Places, type Way } from "./places.ts";
import { readProxy } from "./proxy.ts";
import { ACTIONS, type Document, RECEIVERS, SLOT_LAST, WAIT_SECONDS_LAST } from "./schema.ts";
import { Targets } from "./targets.ts";
import { readRegistries } from "./toml-registry.ts";
import {
  controlFault,
  FD_LAST,
  hostBitsFault,
  parseNumber,
  parsePattern,
  parsePorts,
  parseScoped,
  withoutHostBits,
} from "./words.ts";

/** The table of the routes at the top, where every lookup starts. */
const MAIN = "main";

/** IFNAMSIZ of netdevice(7), less its NUL. */
const DEVICE_BYTES_MAX = 15;

type Route = NonNullable<Document["route"]>[number];
type Listen = NonNullable<Document["listen"]>[number];

/** Reads a whole configuration in TOML; `file` is what places call it. */
export function readToml(file: string, text: string): Reading {
  const findings = new Findings();
  const document = parseDocument<Document>(file, text, findings);
  if (!document) return findings.refusal();
  return new DocumentReader(new Places(file, text), findings, document).read();
}

class DocumentReader {
  readonly #places: Places;
  readonly #document: Document;
  readonly #findings: Findings;
  readonly #targets = new Targets();
  /** By name, as `[target.NAME]` says. */
  readonly #named = new Map<string, Target | undefined>();
  /** What each text of a `to` means: most files name the same few again and again. */
  readonly #actions = new Map<string, Action | Fault>();
  readonly #listeners = new Map<string, number>();

  constructor(places: Places, findings: Findings, document: Document) {
    this.#places = places;
    this.#findings = findings;
    this.#document = document;
  }

  read(): Reading {
    const found = takeOutMisshapes(this.#document, this.#places, this.#findings);
    const { server, listen, route, table, target, slots } = this.#document;
    const listeners = listen ? this.#readListeners(listen) : [LISTENER_DEFAULTS];
    for (const [index, { name }] of listeners.entries()) this.#listeners.set(name, index);
    for (const [name, settings] of Object.entries(target ?? {}))
      this.#named.set(name, this.#readTarget(name, settings));
    for (const [kind, named] of Object.entries({ table, target, slots }))
      for (const name of Object.keys(named ?? {})) {
        const fault = controlFault(kind, name);
        if (fault) this.#findings.error(this.#places.ofKey([kind, name]), fault);
      }
    if (table && Object.hasOwn(table, MAIN)) {
      const fault = new Fault(
        `the table ${quoted(MAIN)} is the one of the routes at the top`,
        "[[route]], or another name",
      );
      this.#findings.error(this.#places.ofKey(["table", MAIN]), fault);
    }
    if (route === undefined ? !found.some(({ way }) => way[0] === "route") : route.length === 0) {
      const fault = new Fault("there is no route, so that every connection would be closed", "[[route]]");
      this.#findings.error(this.#places.ofValue(["route"]), fault);
    }
    const tables = [
      this.#readTable(MAIN, [], route),
      ...Object.entries(table ?? {}).map(([name, inside]) =>
        this.#readTable(name, ["table", name], inside?.route),
      ),
    ];
    const registries = readRegistries(this.#document.registry ?? [], {
      slot: (text) => this.#slot(text),
      fault: (way, fault) => this.#fault(way, fault),
    });
    return this.#findings.reading({
      server: this.#readServer(server),
      listeners,
      registries,
      draft: { tables },
    });
  }

  #readServer(server: Document["server"]): ServerSettings {
    const { user, group, groups, chroot, workers } = server ?? {};
    if (chroot !== undefined && !chroot.startsWith("/")) {
      this.#fault(
        ["server", "chroot"],
        new Fault(`chroot ${quoted(chroot)} is relative`, "an absolute path"),
      );
    }
    for (const [key, value] of Object.entries({ user, group, chroot }))
      this.#mustBePlain(value, ["server", key]);
    for (const [index, name] of (groups ?? []).entries())
      this.#mustBePlain(name, ["server", "groups", index]);
    return {
      ...(user !== undefined && { user: String(user) }),
      ...(group !== undefined && { group: String(group) }),
      ...(groups !== undefined && { groups: groups.map(String) }),
      ...(chroot !== undefined && { chroot }),
      workers: workers ?? SERVER_DEFAULTS.workers,
    };
  }

  #readListeners(all: readonly Listen[]): ListenerSettings[] {
    const names = new Set<string>();
    const bindings = new Map<string, ListenerSettings>();
    return all.map((listen, index) => {
      const name = listen?.name ?? (all.length === 1 ? LISTENER_DEFAULTS.name : `listen-${index + 1}`);
      if (names.has(name)) {
        this.#fault(
          ["listen", index, "name"],
          new Fault(`a second listener ${quoted(name)}`, "each name once"),
        );
      }
      names.add(name);
      const before = this.#findings.count;
      const settings = this.#readListener(name, listen ?? {}, ["listen", index]);
      // Without a port a socket may be passed by name, with 0 each gets its own; what was wrong is a default by now.
      const isWhole = this.#findings.count === before && !Object.values(listen ?? {}).includes(undefined);
      const fault = isWhole && listen?.port ? bindingFault(settings, bindings) : undefined;
      if (fault) this.#fault(["listen", index], fault);
      return settings;
    });
  }

  #readListener(name: string, listen: Listen, way: Way): ListenerSettings {
    const { netns, device } = listen;
    const proxy = readProxy(listen, way, this.#places, this.#findings);
    for (const [key, value] of Object.entries({ name: listen.name, netns, device }))
      this.#mustBePlain(value, [...way, key]);
    if (netns?.includes("/") && !netns.startsWith("/")) {
      const fault = new Fault(`netns ${quoted(netns)} is relative`, "a name or an absolute path");
      this.#fault([...way, "netns"], fault);
    }
    if (Buffer.byteLength(device ?? "") > DEVICE_BYTES_MAX) {
      const fault = new Fault(`device ${quoted(device!)} is too long`, `at most ${DEVICE_BYTES_MAX} bytes`);
      this.#fault([...way, "device"], fault);
    }
    return {
      name,
      ...this.#readBindAddress(listen.address, [...way, "address"]),
      port: listen.port ?? LISTENER_DEFAULTS.port,
      transparent: listen.transparent ?? LISTENER_DEFAULTS.transparent,
      freebind: listen.freebind ?? LISTENER_DEFAULTS.freebind,
      reuseAddress: listen["reuse-address"] ?? LISTENER_DEFAULTS.reuseAddress,
      reusePort: listen["reuse-port"] ?? LISTENER_DEFAULTS.reusePort,
      backlog: listen.backlog ?? LISTENER_DEFAULTS.backlog,
      clearTransparent: listen["clear-transparent"] ?? LISTENER_DEFAULTS.clearTransparent,
      ...(proxy.mode !== "never" && { proxy }),
      ...(netns !== undefined && { netns }),
      ...(device !== undefined && { device }),
    };
  }

  #readBindAddress(text: string | undefined, way: Way): Pick<ListenerSettings, "address" | "scope"> {
    const { address: everywhere, scope: none } = LISTENER_DEFAULTS;
    if (text === undefined) return { address: everywhere, scope: none };
    // By number alone: a name means another interface in each network namespace.
    const found = parseScoped("address", text, (written) => {
      const scope = parseNumber("scope", written, 1, 0xffffffff);
      return scope instanceof Fault ? new Fault(scope.what, "the number of the interface") : scope;
    });
    if (!(found instanceof Fault)) return found;
    this.#fault(way, found);
    return { address: everywhere, scope: none };
  }

  #readTarget(
    name: string,
    settings: NonNullable<Document["target"]>[string] | undefined,
  ): Target | undefined {
    if (settings?.to === undefined) return undefined;
    const way = ["target", name];
    const receivers = this.#receivers(settings.to, settings.spread ?? false, way);
    const waitMs = settings.wait === undefined ? undefined : waitOf(settings.wait);
    if (waitMs instanceof Fault) this.#fault([...way, "wait"], waitMs);
    if (!receivers || waitMs instanceof Fault) return undefined;
    const [first] = receivers;
    const target = this.#targets.of(first!);
    return {
      name,
      receivers,
      balance: settings.balance ?? target.balance,
      fallback: settings.fallback ?? target.fallback,
      spread: settings.spread ?? target.spread,
      queue: settings.queue ?? target.queue,
      waitMs: waitMs ?? target.waitMs,
    };
  }

  /** `undefined` when one of them is wrong, which has been reported then. */
  #receivers(to: string | readonly string[], spread: boolean, way: Way): Receiver[] | undefined {
    const seen = new Set<string>();
    const wrong: Fault[] = [];
    const receivers = this.#each("to", to, way, (text) => {
      const receiver = this.#receiver(text, RECEIVERS);
      const fault =
        receiver instanceof Fault
          ? receiver
          : (repeatFault(receiver, seen) ?? (spread ? siblingFault(receiver) : undefined));
      if (fault) wrong.push(fault);
      return fault ?? receiver;
    });
    const pruned = receivers.length + wrong.length < (typeof to === "string" ? 1 : to.length);
    return pruned || wrong.length > 0 ? undefined : receivers;
  }

  #readTable(name: string, way: Way, routes: readonly (Route | undefined)[] = []): DraftTable {
    const place =
      way.length === 0 ? { file: this.#places.file, line: 1, column: 1 } : this.#places.ofKey(way);
    const drafts = routes.flatMap((route, index) => {
      const draft = route && this.#readRoute(route, [...way, "route", index]);
      return draft ? [draft] : [];
    });
    return { name, place, routes: drafts };
  }

  #readRoute(route: Route, way: Way): DraftRoute | undefined {
    const action = route.to === undefined ? undefined : this.#action(route.to);
    if (action instanceof Fault) this.#fault([...way, "to"], action);
    const draft = {
      place: this.#places.ofValue(way),
      local: this.#patterns("local", route.local, way),
      localPorts: this.#ports("port", route.port, way),
      remote: this.#patterns("remote", route.remote, way),
      remotePorts: this.#ports("remote-port", route["remote-port"], way),
      listeners: this.#each("listener", route.listener, way, (name) => this.#listener(name)),
    };
    return action === undefined || action instanceof Fault ? undefined : { ...draft, action };
  }

  #patterns(key: string, value: Route["local"], way: Way): AddressPattern[] {
    return this.#each(key, value, way, (text, itemWay) => {
      const pattern = parsePattern(key, text);
      const fault = pattern instanceof Fault ? undefined : hostBitsFault(key, pattern);
      if (!fault || pattern instanceof Fault) return pattern;
      this.#findings.warning(this.#places.ofValue(itemWay), fault);
      return withoutHostBits(pattern);
    });
  }

  #ports(key: string, value: Route["port"], way: Way): PortRange[] {
    return this.#each(key, value, way, (port) =>
      typeof port === "number" ? { first: port, last: port } : parsePorts(key, port),
    );
  }

  #listener(name: string): number | Fault {
    const known = [...this.#listeners.keys()].map(quoted).join(", ");
    return this.#listeners.get(name) ?? new Fault(`there is no listener ${quoted(name)}`, known);
  }

  /** Reads the one value or the list under `key`; what is wrong with one is reported with its own place. */
  #each<Item extends string | number, Result extends object | number>(
    key: string,
    value: Item | readonly Item[] | undefined,
    way: Way,
    read: (item: Item, way: Way) => Result | Fault,
  ): Result[] {
    if (value === undefined) return [];
    const isList = typeof value === "object";
    const items: readonly (Item | undefined)[] = isList ? value : [value];
    const results: Result[] = [];
    for (const [index, item] of items.entries()) {
      if (item === undefined) continue; // pruned
      const itemWay = isList ? [...way, key, index] : [...way, key];
      const result = read(item, itemWay);
      if (result instanceof Fault) this.#fault(itemWay, result);
      else results.push(result);
    }
    return results;
  }

  #action(text: string): Action | Fault {
    const known = this.#actions.get(text);
    if (known) return known;
    const action = this.#parseAction(text);
    this.#actions.set(text, action);
    return action;
  }

  #parseAction(text: string): Action | Fault {
    if (text === "deny") return { kind: "deny" };
    const name = text.slice(text.indexOf(":") + 1);
    if (text.startsWith("table:")) {
      if (name === MAIN)
        return new Fault(
          "a jump to the table of the routes at the top, where every lookup starts",
          "another",
        );
      if (Object.hasOwn(this.#document.table ?? {}, name)) return { kind: "table", table: name };
      return new Fault(
        `there is no table ${quoted(name)}`,
        `[[table.${shown(name)}.route]], or ${known(this.#document.table)}`,
      );
    }
    if (text.startsWith("target:")) {
      if (!this.#named.has(name)) {
        return new Fault(
          `there is no target ${quoted(name)}`,
          `[target.${shown(name)}], or ${known(this.#document.target)}`,
        );
      }
      // One whose own settings are wrong has been reported there.
      const target = this.#named.get(name);
      return target ? { kind: "target", target } : { kind: "deny" };
    }
    const receiver = this.#receiver(text, ACTIONS);
    return receiver instanceof Fault ? receiver : { kind: "target", target: this.#targets.of(receiver) };
  }

  #receiver(text: string, expected: string): Receiver | Fault {
    const colon = text.indexOf(":");
    const value = text.slice(colon + 1);
    switch (colon < 0 ? "" : text.slice(0, colon)) {
      case "unix":
        return unixReceiver(value);
      case "fd": {
        const fd = parseNumber("descriptor", value, 0, FD_LAST);
        return fd instanceof Fault ? fd : { kind: "fd", fd };
      }
      case "slot": {
        const slot = this.#slot(value);
        return slot instanceof Fault ? slot : { kind: "slot", slot };
      }
      default:
        return new Fault(`${quoted(text)} is no place to go to`, expected);
    }
  }

  #mustBePlain(value: string | number | undefined, way: Way): void {
    const name = way.findLast((step) => typeof step === "string")!;
    const fault = controlFault(name, String(value ?? ""));
    if (fault) this.#fault(way, fault);
  }

  /** A number, or a name in `[slots]`. */
  #slot(text: string): number | Fault {
    const slots = this.#document.slots ?? {};
    const slot = Object.hasOwn(slots, text) ? slots[text]! : parseNumber("slot", text, 0, SLOT_LAST);
    if (!(slot instanceof Fault) || /^\d/.test(text)) return slot;
    return new Fault(`there is no slot ${quoted(text)}`, "a number, or a name in [slots]");
  }

  #fault(way: Way, fault: Fault): void {
    this.#findings.error(this.#places.ofValue(way), fault);
  }
}

/** What keeps a listener from being bound beside the others, to which it is added. */
function bindingFault(settings: ListenerSettings, others: Map<string, ListenerSettings>): Fault | undefined {
  const { address, scope, port, netns, device, reusePort } = settings;
  const place = JSON.stringify([[...address], scope, port, netns, device]);
  const same = others.get(place);
  others.set(place, settings);
  if (!same || (reusePort && same.reusePort)) return undefined;
  return new Fault(`a second listener at ${formatEndpoint(address, port)}`, "each address and port once");
}

function unixReceiver(path: string): Receiver | Fault {
  if (path !== "" && isRelative(path)) return new Fault(`path ${quoted(path)} is relative`, "/path or @name");
  const fault = /[{}]/.test(path) ? templateFault(path) : pathFault(path);
  if (fault) return fault;
  return hasBraces(path) ? { kind: "unix", path, fill: "braces" } : { kind: "unix", path };
}

function repeatFault(receiver: Receiver, seen: Set<string>): Fault | undefined {
  const name = formatReceiver(receiver);
  if (seen.has(name)) return new Fault(`a second receiver ${quoted(name)}`, "each receiver once");
  seen.add(name);
  return undefined;
}

/** What keeps a receiver from having siblings. */
function siblingFault(receiver: Receiver): Fault | undefined {
  if (receiver.kind === "unix") {
    const last = siblingPath(receiver.path, SIBLINGS_MAX);
    return receiver.fill ? templateFault(last) : pathFault(last);
  }
  return new Fault(`spread does not go with ${quoted(formatReceiver(receiver))}`, "paths alone");
}

/** Milliseconds. */
function waitOf(wait: number | string): number | Fault {
  const ms = parseDuration("wait", wait);
  return ms instanceof Fault || ms <= WAIT_SECONDS_LAST * 1000
    ? ms
    : new Fault(`wait ${quoted(String(wait))} is too long`, `at most ${WAIT_SECONDS_LAST} seconds`);
}

function known(tables: object | undefined): string {
  const names = Object.keys(tables ?? {});
  return names.length > 0 ? `one of ${names.map(quoted).join(", ")}` : "another action";
}
