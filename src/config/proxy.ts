/** The PROXY protocol, received: the three keys that say so, of a listener as of a relay. */
import * as v from "valibot";
import type { AddressPattern } from "../model/address.ts";
import { PROXY_MODES, type ProxyReceiving } from "../model/proxy.ts";
import { durationSchema, parseDuration } from "./duration.ts";
import { Fault, type Findings, quoted } from "./fault.ts";
import type { Places, Way } from "./places.ts";
import { addresses } from "./schema-parts.ts";
import { hostBitsFault, parsePattern, withoutHostBits } from "./words.ts";

export const PROXY_DEFAULTS: ProxyReceiving = { mode: "never", from: [], waitMs: 3_000 };

export const PROXY_KEYS = {
  proxy: v.optional(
    v.pipe(
      v.picklist(PROXY_MODES, PROXY_MODES.map((mode) => JSON.stringify(mode)).join(", ")),
      v.metadata({
        description: "Whether clients in proxy-from send a PROXY protocol header.",
        default: PROXY_DEFAULTS.mode,
      }),
    ),
  ),
  "proxy-from": addresses("Who may send a PROXY protocol header."),
  "proxy-timeout": durationSchema(
    "How long a PROXY protocol header may take to come.",
    PROXY_DEFAULTS.waitMs,
  ),
} as const;

interface Written {
  readonly proxy?: ProxyReceiving["mode"] | undefined;
  readonly "proxy-from"?: string | readonly (string | undefined)[] | undefined;
  readonly "proxy-timeout"?: number | string | undefined;
}

/** Faults are found, not thrown: with any of them what this returns is never used. */
export function readProxy(written: Written, way: Way, places: Places, findings: Findings): ProxyReceiving {
  const fault = (key: string | number, found: Fault, ...more: number[]) =>
    findings.error(places.ofValue([...way, key, ...more]), found);
  const { proxy: mode = PROXY_DEFAULTS.mode, "proxy-from": senders, "proxy-timeout": timeout } = written;
  if (mode !== "never" && senders === undefined)
    fault(
      "proxy",
      new Fault(`proxy is ${quoted(mode)}, and nobody may send a header`, "proxy-from beside it"),
    );
  const isList = typeof senders === "object";
  const items = senders === undefined ? [] : isList ? senders : [senders];
  const from = items.flatMap((text, index): AddressPattern[] => {
    if (text === undefined) return []; // pruned
    const pattern = parsePattern("proxy-from", text);
    const itemWay = isList ? [...way, "proxy-from", index] : [...way, "proxy-from"];
    if (pattern instanceof Fault) {
      findings.error(places.ofValue(itemWay), pattern);
      return [];
    }
    const slip = hostBitsFault("proxy-from", pattern);
    if (slip) findings.warning(places.ofValue(itemWay), slip);
    return [withoutHostBits(pattern)];
  });
  const waitMs = timeout === undefined ? PROXY_DEFAULTS.waitMs : parseDuration("proxy-timeout", timeout);
  if (waitMs instanceof Fault) fault("proxy-timeout", waitMs);
  return { mode, from, waitMs: waitMs instanceof Fault ? PROXY_DEFAULTS.waitMs : waitMs };
}
