/** The command line of `socketbox-relay`: every letter of the original, with a long name beside it. */
import { resolve } from "node:path";
import type { ArgsDef, ParsedArgs } from "citty";
import { parseDuration } from "../config/duration.ts";
import { Fault } from "../config/fault.ts";
import { pathFault } from "../config/path.ts";
import {
  BALANCES,
  CONNECTIONS_MAX,
  type Inlet,
  RELAY_DEFAULTS,
  type RelaySettings,
} from "../config/relay.ts";
import { parseInlet, parsePerSource, parseScope, parseSource, parseUpstream } from "../config/relay-words.ts";
import { interfaceIndex } from "../io/connect.ts";
import { parseAddress } from "../model/address.ts";
import { lacksScope, type Nat64, type Upstream } from "../model/upstream.ts";
import type { Host } from "../programs/host.ts";
import { LOG_FORMS } from "../programs/relay/log.ts";
import { relay as run } from "../programs/relay.ts";
import { addressOption, COMMON, good, noWords, numberOption, parse, printHelp, usage } from "./options.ts";
import { IDENTITY_OPTIONS, identityRequest } from "./serve.ts";

const FD_MAX = 0x7fffffff;
const DRAIN_DEFAULT = "30s";

/** Its letters mean something else here. */
function withoutLetters<T extends ArgsDef>(options: T): T {
  const entries = Object.entries(options).map(
    ([name, { alias: _, ...option }]: [string, ArgsDef[string] & { alias?: unknown }]) => [name, option],
  );
  return Object.fromEntries(entries) as T;
}

const OPTIONS = {
  config: {
    type: "string",
    description: "TOML file with [[relay]] tables, in the place of all options about one relay",
    valueHint: "FILE",
  },
  socket: {
    type: "string",
    alias: "s",
    description: "receive connections on this Unix socket, which it binds",
    valueHint: "PATH",
  },
  "receive-fd": { type: "boolean", alias: "e", description: "receive connections on the bound socket of -l" },
  listener: {
    type: "string",
    alias: "l",
    description: "accept connections on this inherited socket, by number or name (default 0)",
    valueHint: "FD|systemd:NAME",
  },
  register: {
    type: "string",
    description: "receive the connections of slot NR of the server at PATH",
    valueHint: "NR:PATH",
  },
  "from-uid": { type: "string", description: "receive connections from this user alone", valueHint: "USER" },
  connect: {
    type: "string",
    alias: "c",
    description: "address to connect to (default ::1)",
    valueHint: "ADDR",
  },
  port: {
    type: "string",
    alias: "p",
    description: "port to connect to (default 80); 0: the client's",
    valueHint: "PORT",
  },
  interface: {
    type: "string",
    alias: "I",
    description: "interface of a link-local target",
    valueHint: "NAME",
  },
  scope: { type: "string", alias: "n", description: "the same by number", valueHint: "NR" },
  unix: {
    type: "string",
    alias: "u",
    description: "connect to this Unix socket; @NAME is abstract",
    valueHint: "PATH",
  },
  to: { type: "string", description: "targets: [ADDR]:PORT, NAME:PORT, unix:PATH; a,b,c", valueHint: "LIST" },
  balance: { type: "string", description: `${BALANCES.join(", ")}`, valueHint: "WAY" },
  retry: {
    type: "string",
    description: "how long a target that failed is tried last (default 10s)",
    valueHint: "TIME",
  },
  nat64: { type: "boolean", alias: "N", description: "carry over the last 32 bits of the client's target" },
  "nat64-prefix": {
    type: "string",
    alias: "P",
    description: "the NAT64 prefix (default 64:ff9b::)",
    valueHint: "PREFIX",
  },
  "nat64-wide": { type: "boolean", alias: "x", description: "NAT64 with a /64 prefix and 64 bits" },
  proxy: { type: "boolean", alias: "i", description: "send a PROXY protocol version 1 header first" },
  "send-proxy": {
    type: "string",
    description: "send a PROXY header of this version: v1, v2",
    valueHint: "V",
  },
  source: {
    type: "string",
    description: "connect from ADDR, or from the address of the client",
    valueHint: "ADDR|client",
  },
  netns: { type: "string", description: "reach targets in this network namespace", valueHint: "NAME" },
  "connect-timeout": { type: "string", description: "for each target (default 10s)", valueHint: "TIME" },
  "idle-timeout": { type: "string", description: "without a byte (default 0: none)", valueHint: "TIME" },
  "half-closed-timeout": {
    type: "string",
    description: "the same, when one side has finished (default 1h)",
    valueHint: "TIME",
  },
  "total-timeout": { type: "string", description: "in all (default 0: none)", valueHint: "TIME" },
  max: { type: "string", description: "at most N connections at a time; more wait", valueHint: "N" },
  "per-source": {
    type: "string",
    description: "at most N from one address, or IPv6 /LEN; more are refused",
    valueHint: "N[/LEN]",
  },
  drain: {
    type: "string",
    description: `after SIGTERM, how long connections may go on (default ${DRAIN_DEFAULT})`,
    valueHint: "TIME",
  },
  log: { type: "string", description: `lines about connections: ${LOG_FORMS.join(", ")}`, valueHint: "FORM" },
  ...withoutLetters(IDENTITY_OPTIONS),
  ...COMMON,
} as const satisfies ArgsDef;

type Options = ParsedArgs<typeof OPTIONS>;

/** Those that are not about one relay, and go with --config. */
const GENERAL = new Set([
  "config",
  "from-uid",
  "drain",
  "log",
  ...Object.keys(IDENTITY_OPTIONS),
  ...Object.keys(COMMON),
]);

const MORE = `
A connection that comes is connected to the target, and bytes go both ways until both sides have finished. It is
logged on standard error when it begins, and when it ends with its bytes, time and reason. TIME is a number of
seconds, or such as 500ms, 10s, 2m. SIGTERM takes what has come, and stops when the last connection has ended or
the time of --drain is over; a second one stops at once. SIGHUP reads the file of --config again. SIGUSR1 logs totals.

EXIT CODES

  0  it was told to stop           3  the system refused: an address in use, no permission …
  1  the configuration is wrong    11 the peer of a connected socket (-e -l FD) has gone
  2  the command line is wrong     70 a fault of socketbox-relay
`;

export async function relay(host: Host, argv: readonly string[]): Promise<number> {
  const { options, canonical, words } = parse(argv, OPTIONS);
  if (options.help) {
    const description = "Relays each connection that it receives or accepts to a server.";
    return printHelp(
      host,
      { meta: { name: host.name, description }, args: OPTIONS },
      { words: "", more: MORE },
    );
  }
  noWords(words);
  const form = LOG_FORMS.find((one) => one === (options.log ?? "text"));
  if (!form)
    throw usage(`--log: ${JSON.stringify(options.log)} is not a form; expected ${LOG_FORMS.join(", ")}`);
  return run(host, {
    relays: options.config === undefined ? settings(options) : { file: file(options.config, canonical) },
    fromUser: options["from-uid"],
    identity: identityRequest(options as never),
    log: form,
    drainMs: duration("drain", options.drain ?? DRAIN_DEFAULT),
  });
}

function file(path: string, canonical: readonly string[]): string {
  const other = canonical.map((option) => option.slice(2).split("=")[0]!).find((name) => !GENERAL.has(name));
  if (other !== undefined) throw usage(`--${other} is about one relay, and --config describes all`);
  return resolve(path);
}

function settings(options: Options): RelaySettings {
  const nat64 = nat64Of(options);
  const { timeouts, proxy } = RELAY_DEFAULTS;
  const from = inlet(options);
  const to = targets(options, nat64);
  const balance = BALANCES.find((one) => one === (options.balance ?? RELAY_DEFAULTS.balance));
  if (!balance) throw usage(`--balance: ${JSON.stringify(options.balance)}; expected ${BALANCES.join(", ")}`);
  const sendProxy = sendProxyOf(options);
  const source = options.source === undefined ? undefined : good("--source", parseSource(options.source));
  const perSource = options["per-source"];
  return {
    name: "relay",
    from,
    to,
    balance,
    retryMs: durationOr(options, "retry", RELAY_DEFAULTS.retryMs),
    ...(nat64 && { nat64 }),
    ...(source !== undefined && { source }),
    ...(options.netns !== undefined && { netns: options.netns }),
    ...(sendProxy !== undefined && { sendProxy }),
    proxy,
    timeouts: {
      connect: durationOr(options, "connect-timeout", timeouts.connect),
      idle: durationOr(options, "idle-timeout", timeouts.idle),
      halfClosed: durationOr(options, "half-closed-timeout", timeouts.halfClosed),
      total: durationOr(options, "total-timeout", timeouts.total),
    },
    max: options.max === undefined ? CONNECTIONS_MAX : numberOption("--max", options.max, 1, CONNECTIONS_MAX),
    ...(perSource !== undefined && { perSource: good("--per-source", parsePerSource(perSource)) }),
  };
}

function inlet(options: Options): Inlet {
  const { socket, register, "receive-fd": receive, listener } = options;
  if ([socket !== undefined, register !== undefined, receive === true].filter(Boolean).length > 1)
    throw usage("options -s, -e and --register exclude each other");
  if (socket !== undefined) return { kind: "unix", path: unixPath("-s", socket) };
  if (register !== undefined) {
    const absolute = register.replace(/^(\d+):([^@].*)$/s, (_, slot, path) => `${slot}:${resolve(path)}`);
    return good("--register", parseInlet(`slot:${absolute}`), "NR:PATH");
  }
  if (listener?.startsWith("systemd:")) return good("-l", parseInlet(listener));
  return { kind: "fd", fd: numberOption("-l", listener ?? "0", 0, FD_MAX) };
}

function targets(options: Options, nat64: Nat64 | undefined): Upstream[] {
  const { to, unix, connect, port, interface: name, scope } = options;
  if (to !== undefined) {
    if ([unix, connect, port, name, scope].some((option) => option !== undefined))
      throw usage("option --to stands for -c, -p, -I, -n and -u, and excludes them");
    const upstreams = to.split(",").map((text) => good("--to", parseUpstream(text, interfaceIndex)));
    if (nat64 && upstreams.some(({ kind }) => kind === "name"))
      throw usage("NAT64 replaces the last bits of an address, and --to has a name");
    return upstreams;
  }
  if (unix !== undefined) {
    if (connect !== undefined) throw usage("options -c and -u exclude each other");
    return [{ kind: "unix", path: unixPath("-u", unix) }];
  }
  if (name !== undefined && scope !== undefined) throw usage("options -I and -n exclude each other");
  const address = connect === undefined ? parseAddress("::1")! : addressOption("-c", connect);
  const id =
    name !== undefined
      ? good("-I", parseScope(name, interfaceIndex))
      : scope === undefined
        ? 0
        : numberOption("-n", scope, 0, 0xffffffff);
  if (lacksScope(address, id))
    throw usage(`-c: ${connect} is link-local; its interface (-I or -n) is missing`);
  const least = nat64 ? 0 : 1;
  return [{ kind: "inet", address, scope: id, port: numberOption("-p", port ?? "80", least, 65535) }];
}

/** -x alone asks for the mode too; a prefix alone would do nothing, and is most likely a slip. */
function nat64Of(options: Options): Nat64 | undefined {
  const { nat64, "nat64-prefix": prefix, "nat64-wide": wide } = options;
  if (!nat64 && !wide) {
    if (prefix !== undefined) throw usage("option -P needs -N or -x");
    return undefined;
  }
  const length = wide ? 64 : 96;
  // The length may be written, too: there is only one that fits.
  const address = prefix?.endsWith(`/${length}`) ? prefix.slice(0, -`/${length}`.length) : prefix;
  return { prefix: addressOption("-P", address ?? "64:ff9b::"), length };
}

function sendProxyOf({ proxy, "send-proxy": version }: Options): 1 | 2 | undefined {
  if (proxy && version !== undefined) throw usage("options -i and --send-proxy exclude each other");
  if (proxy || version === "v1") return 1;
  if (version === undefined || version === "v2") return version && 2;
  throw usage(`--send-proxy: ${JSON.stringify(version)} is not a version; expected v1 or v2`);
}

/** Relative paths are meant from where it was started, whatever a chroot does later. */
function unixPath(name: string, path: string): string {
  const whole = path.startsWith("@") ? path : resolve(path);
  const fault = path === "" ? new Fault("the path is empty", "a path or @NAME") : pathFault(whole);
  return good(name, fault ?? whole);
}

function durationOr(options: Options, name: keyof Options & string, byDefault: number): number {
  const value = options[name] as string | undefined;
  return value === undefined ? byDefault : duration(name, value);
}

function duration(name: string, value: string): number {
  return good(`--${name}`, parseDuration(name, value));
}
