/** A relay's TOML file, from text to settings. Its shape is in relay-schema.ts. */
import type { Upstream } from "../model/upstream.ts";
import { parseDocument, takeOutMisshapes } from "./document.ts";
import { parseDuration } from "./duration.ts";
import { Fault, Findings, quoted } from "./fault.ts";
import type { Shape } from "./issues.ts";
import { Places, type Way } from "./places.ts";
import { readProxy } from "./proxy.ts";
import { RELAY_DEFAULTS, type RelayReading, type RelaySettings } from "./relay.ts";
import { type RelayDocument, RelayDocumentSchema } from "./relay-schema.ts";
import {
  INLETS,
  type InterfaceIndex,
  parseInlet,
  parseNat64,
  parsePerSource,
  parseSource,
  parseUpstream,
  UPSTREAMS,
} from "./relay-words.ts";
import { controlFault } from "./words.ts";

type Relay = RelayDocument["relay"][number];

const SHAPE: Shape = {
  schema: RelayDocumentSchema,
  wanted: (way) => ({ from: INLETS, to: UPSTREAMS })[String(way.at(-1))] ?? "[[relay]]",
};

/** Everything that a reading gave and a fault did not spoil. */
type Parts = { -readonly [Key in keyof RelaySettings]?: RelaySettings[Key] };

export function readRelays(file: string, text: string, interfaceIndex: InterfaceIndex): RelayReading {
  const findings = new Findings();
  const document = parseDocument<RelayDocument>(file, text, findings);
  if (!document) return { diagnostics: findings.refusal().diagnostics };
  return new Reader(new Places(file, text), findings, interfaceIndex).read(document);
}

class Reader {
  readonly #places: Places;
  readonly #findings: Findings;
  readonly #interfaceIndex: InterfaceIndex;

  constructor(places: Places, findings: Findings, interfaceIndex: InterfaceIndex) {
    this.#places = places;
    this.#findings = findings;
    this.#interfaceIndex = interfaceIndex;
  }

  read(document: RelayDocument): RelayReading {
    takeOutMisshapes(document, this.#places, this.#findings, SHAPE);
    const relays = (document.relay ?? []).map((relay, index) => this.#relay(relay ?? {}, ["relay", index]));
    this.#refuseTwins(document);
    const { diagnostics } = this.#findings.refusal();
    if (diagnostics.some(({ severity }) => severity === "error")) return { diagnostics };
    return { configuration: { relays }, diagnostics };
  }

  /** Faults are found, not thrown: with any of them what this returns is never used. */
  #relay(relay: Partial<Relay>, way: Way): RelaySettings {
    const parts: Parts = {};
    const value = <Key extends keyof Parts>(
      key: keyof Relay,
      part: Key,
      result: Parts[Key] | Fault | undefined,
    ) => {
      if (result instanceof Fault) this.#findings.error(this.#places.ofValue([...way, key]), result);
      else if (result !== undefined) parts[part] = result;
    };
    const { timeouts } = RELAY_DEFAULTS;
    value("from", "from", relay.from === undefined ? undefined : parseInlet(relay.from));
    value("nat64", "nat64", relay.nat64 === undefined ? undefined : parseNat64(relay.nat64));
    value("source", "source", relay.source === undefined ? undefined : parseSource(relay.source));
    const perSource = relay["per-source"];
    value("per-source", "perSource", perSource === undefined ? undefined : parsePerSource(String(perSource)));
    for (const key of ["name", "netns", "client-netns"] as const) {
      const fault = controlFault(key, relay[key] ?? "");
      if (fault) this.#findings.error(this.#places.ofValue([...way, key]), fault);
    }
    const to = this.#list(relay.to, [...way, "to"], (text) => parseUpstream(text, this.#interfaceIndex));
    this.#compatible(relay, to, way);
    return {
      from: { kind: "fd", fd: 0 },
      ...parts,
      name: relay.name ?? relay.from ?? "",
      to,
      balance: relay.balance ?? RELAY_DEFAULTS.balance,
      retryMs: this.#duration(relay, "retry", RELAY_DEFAULTS.retryMs, way),
      ...(relay.netns !== undefined && { netns: relay.netns }),
      ...(relay["send-proxy"] !== undefined && { sendProxy: relay["send-proxy"] === "v1" ? 1 : 2 }),
      ...(relay["client-netns"] !== undefined && { clientNetns: relay["client-netns"] }),
      proxy: readProxy(relay, way, this.#places, this.#findings),
      timeouts: {
        connect: this.#duration(relay, "connect-timeout", timeouts.connect, way),
        idle: this.#duration(relay, "idle-timeout", timeouts.idle, way),
        halfClosed: this.#duration(relay, "half-closed-timeout", timeouts.halfClosed, way),
        total: this.#duration(relay, "total-timeout", timeouts.total, way),
      },
      max: relay.max ?? RELAY_DEFAULTS.max,
    };
  }

  #duration(relay: Partial<Relay>, key: keyof Relay, byDefault: number, way: Way): number {
    const value = relay[key] as number | string | undefined;
    if (value === undefined) return byDefault;
    const ms = parseDuration(key, value);
    if (!(ms instanceof Fault)) return ms;
    this.#findings.error(this.#places.ofValue([...way, key]), ms);
    return byDefault;
  }

  #list<Value extends object>(
    value: string | readonly (string | undefined)[] | undefined,
    way: Way,
    parse: (text: string, way: Way) => Value | Fault,
  ): Value[] {
    const isList = typeof value === "object";
    const items = value === undefined ? [] : isList ? value : [value];
    return items.flatMap((item, index) => {
      if (item === undefined) return []; // pruned
      const itemWay = isList ? [...way, index] : way;
      const result = parse(item, itemWay);
      if (!(result instanceof Fault)) return [result];
      this.#findings.error(this.#places.ofValue(itemWay), result);
      return [];
    });
  }

  /** What each word alone allows, and together they do not. */
  #compatible(relay: Partial<Relay>, to: readonly Upstream[], way: Way): void {
    const named = to.find(({ kind }) => kind === "name");
    if (relay.nat64 === undefined || !named) return;
    const fault = new Fault("nat64 with a target that is a name", "an address, whose last bits are replaced");
    this.#findings.error(this.#places.ofValue([...way, "nat64"]), fault);
  }

  /** Two relays cannot take connections from one place: each would get some. */
  #refuseTwins({ relay = [] }: Partial<RelayDocument>): void {
    const seen = new Set<string>();
    for (const [index, one] of relay.entries()) {
      if (one?.from === undefined) continue;
      if (seen.has(one.from)) {
        const fault = new Fault(`a second relay from ${quoted(one.from)}`, "each source once");
        this.#findings.error(this.#places.ofValue(["relay", index, "from"]), fault);
      }
      seen.add(one.from);
    }
  }
}
