/** The words of a relay's settings, from text to value. */
import { type Address, parseAddress, prefixLength } from "../model/address.ts";
import { lacksScope, type Nat64, type Upstream } from "../model/upstream.ts";
import { Fault, quoted } from "./fault.ts";
import { isRelative, pathFault } from "./path.ts";
import { CONNECTIONS_MAX, type Inlet, type RelaySettings } from "./relay.ts";
import { controlFault, FD_LAST, parseNumber, parsePattern } from "./words.ts";

export const UPSTREAMS = '"[ADDRESS]:PORT", "A.B.C.D:PORT", "NAME:PORT", "unix:/path" or "unix:@name"';
export const INLETS = '"unix:/path", "unix:@name", "slot:NR:/path", "fd:N" or "systemd:NAME"';
export const NAT64_PREFIXES = 'a prefix of 96 or 64 bits, such as "64:ff9b::/96"';
export const PER_SOURCE = '"N" or "N/LENGTH"';
const SLOT_LAST = 0xffffffff;
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$/;

/** The number of an interface, by its name; `undefined` when there is none. */
export type InterfaceIndex = (name: string) => number | undefined;

export function parseUpstream(text: string, interfaceIndex: InterfaceIndex): Upstream | Fault {
  if (text.startsWith("unix:")) return unixPath(text.slice(5), (path) => ({ kind: "unix", path }));
  const [, bracketed, dotted, portText] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d+)$/.exec(text) ?? [];
  if (portText === undefined) return new Fault(`${quoted(text)} is no target`, UPSTREAMS);
  const port = parseNumber("port", portText, 0, 65535);
  if (port instanceof Fault) return port;
  const host = bracketed ?? dotted!;
  const [written = "", zone, ...others] = host.split("%");
  const address = others.length === 0 ? parseAddress(written) : undefined;
  if (address) {
    const scope = zone === undefined ? 0 : parseScope(zone, interfaceIndex);
    if (scope instanceof Fault) return scope;
    if (lacksScope(address, scope))
      return new Fault(`${quoted(host)} is link-local`, "its interface, too: [fe80::1%eth0]:80");
    return { kind: "inet", address, scope, port };
  }
  if (bracketed === undefined && HOST_NAME.test(host) && !/^[\d.]+$/.test(host))
    return { kind: "name", name: host, port };
  return new Fault(`${quoted(host)} is neither an address nor a name`, UPSTREAMS);
}

/** A number or a name of an interface. */
export function parseScope(text: string, interfaceIndex: InterfaceIndex): number | Fault {
  if (/^\d+$/.test(text)) return parseNumber("scope", text, 1, 0xffffffff);
  return (
    controlFault("interface", text) ??
    interfaceIndex(text) ??
    new Fault(`there is no interface ${quoted(text)}`, "an interface's name or number")
  );
}

export function parseInlet(text: string): Inlet | Fault {
  const colon = text.indexOf(":");
  const value = text.slice(colon + 1);
  switch (colon < 0 ? "" : text.slice(0, colon)) {
    case "unix":
      return unixPath(value, (path) => ({ kind: "unix", path }));
    case "slot": {
      const [, number, path] = /^(\d+):(.+)$/.exec(value) ?? [];
      if (number === undefined || path === undefined)
        return new Fault(`${quoted(text)} has no slot and path`, '"slot:NR:/path"');
      const slot = parseNumber("slot", number, 0, SLOT_LAST);
      return slot instanceof Fault ? slot : unixPath(path, (at) => ({ kind: "slot", slot, path: at }));
    }
    case "fd": {
      const fd = parseNumber("descriptor", value, 0, FD_LAST);
      return fd instanceof Fault ? fd : { kind: "fd", fd };
    }
    case "systemd":
      if (value === "") return new Fault(`${quoted(text)} has no name`, '"systemd:NAME"');
      return controlFault("name", value) ?? { kind: "passed", name: value };
    default:
      return new Fault(`${quoted(text)} is nowhere that connections come from`, INLETS);
  }
}

export function parseNat64(text: string): Nat64 | Fault {
  const pattern = parsePattern("nat64", text);
  if (pattern instanceof Fault) return pattern;
  const length = prefixLength(pattern.mask);
  if (length !== 96 && length !== 64) return new Fault(`nat64 is ${quoted(text)}`, NAT64_PREFIXES);
  return { prefix: pattern.address, length };
}

export function parseSource(text: string): "client" | Address | Fault {
  if (text === "client") return text;
  return parseAddress(text) ?? new Fault(`source is ${quoted(text)}`, '"client" or an address');
}

export function parsePerSource(text: string): NonNullable<RelaySettings["perSource"]> | Fault {
  const [mostText = "", lengthText = "64", ...others] = text.split("/");
  if (others.length > 0) return new Fault(`${quoted(text)} has too many parts`, PER_SOURCE);
  const most = parseNumber("per-source", mostText, 1, CONNECTIONS_MAX);
  const length = parseNumber("per-source length", lengthText, 1, 128);
  if (most instanceof Fault) return most;
  return length instanceof Fault ? length : { most, prefixLength: length };
}

function unixPath<Value>(path: string, value: (path: string) => Value): Value | Fault {
  if (path !== "" && isRelative(path)) return new Fault(`path ${quoted(path)} is relative`, "/path or @name");
  return pathFault(path) ?? value(path);
}
