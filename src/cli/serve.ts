/** The command line of the server: every letter of the original, with a long name beside it. */
import type { ArgsDef, ParsedArgs } from "citty";
import { parseScope } from "../config/relay-words.ts";
import { parseScoped } from "../config/words.ts";
import { interfaceIndex } from "../io/connect.ts";
import type { IdentityRequest } from "../io/identity.ts";
import type { Host } from "../programs/host.ts";
import type { Idle, ListenerOverrides, Registration, ServeOptions } from "../programs/plan.ts";
import { serve } from "../programs/serve.ts";
import { SLOT_MAX } from "../wire/registration.ts";
import {
  COMMON,
  fileOption,
  good,
  noWords,
  numberOption,
  parse,
  printHelp,
  socketPathOption,
  usage,
} from "./options.ts";

export const CONFIG_OPTION = {
  type: "string",
  alias: "f",
  description: "configuration file",
  valueHint: "FILE",
  default: "/etc/socketbox.conf",
} as const;

export const IDENTITY_OPTIONS = {
  user: {
    type: "string",
    alias: "u",
    description: "run as this user, in its primary group",
    valueHint: "USER",
  },
  group: { type: "string", alias: "g", description: "run in this group", valueHint: "GROUP" },
  groups: {
    type: "string",
    alias: "G",
    description: "supplementary groups to keep, a,b,c",
    valueHint: "LIST",
  },
  "keep-groups": { type: "boolean", alias: "k", description: "leave supplementary groups alone" },
  chroot: { type: "string", alias: "x", description: "change the root folder", valueHint: "DIR" },
} as const satisfies ArgsDef;

const OPTIONS = {
  config: CONFIG_OPTION,
  address: {
    type: "string",
    alias: "l",
    description: "address to listen on, perhaps with %INTERFACE (default ::, all)",
    valueHint: "ADDR",
  },
  port: { type: "string", alias: "p", description: "port to listen on (default 80)", valueHint: "PORT" },
  transparent: { type: "boolean", alias: "t", description: "set IPV6_TRANSPARENT, needed behind TPROXY" },
  freebind: { type: "boolean", alias: "F", description: "set IPV6_FREEBIND: the address need not exist yet" },
  exclusive: { type: "boolean", alias: "R", description: "do not set SO_REUSEADDR" },
  "reuse-port": { type: "boolean", alias: "r", description: "set SO_REUSEPORT: share the port" },
  backlog: { type: "string", alias: "b", description: "listen backlog (default 4096)", valueHint: "N" },
  socket: { type: "string", alias: "s", description: "listen on this inherited socket", valueHint: "FD" },
  register: {
    type: "string",
    alias: "P",
    description: "take slot NR of another server",
    valueHint: "NR:PATH",
  },
  "clear-transparent": {
    type: "boolean",
    alias: "z",
    description: "clear IPV6_TRANSPARENT on what is accepted",
  },
  "send-to": {
    type: "string",
    alias: "S",
    description: "no rules: all to the receiver at PATH",
    valueHint: "PATH",
  },
  "send-fd": {
    type: "string",
    alias: "i",
    description: "no rules: all over this inherited socket",
    valueHint: "FD",
  },
  takeover: {
    type: "string",
    description: "go on where the server at PATH is, and wait there for the next one",
    valueHint: "PATH",
  },
  substitute: { type: "boolean", alias: "U", description: "fill #//0_ … #//7_, #//P_ in paths" },
  ...IDENTITY_OPTIONS,
  daemon: { type: "boolean", alias: "d", description: "go to the background once it listens" },
  exec: { type: "boolean", alias: "e", description: "bind, then become the program that follows" },
  ...COMMON,
} as const satisfies ArgsDef;

const META = {
  name: "socketbox",
  description:
    "One listening socket, many daemons: hands each connection to the daemon its address belongs to.",
};

const MORE = `
COMMANDS

  socketbox check [-f FILE]                   say all that is wrong with a configuration
  socketbox explain [-f FILE] LOCAL REMOTE    say where a connection would go, and why

A FILE whose name ends in .toml is TOML, any other is in the line format. -l or -p replace all listeners of the
FILE; other options about listeners apply to each of them. With -e, SKBOX_LISTEN_FD holds the listener's number.
SIGHUP reads FILE again, and goes on with the old one where the new one will not do.
SIGTERM accepts what has come, delivers what waits, then stops; a second one stops at once.

EXIT CODES

  0  it was told to stop           3  the system refused: address in use, no permission …
  1  the configuration is wrong    11 the peer of -i or -P has gone
  2  the command line is wrong     70 a fault of socketbox
`;

/** Words that come first, and alone. */
const COMMANDS = ["check", "explain"];

export async function serveCommand(host: Host, argv: readonly string[]): Promise<number> {
  if (argv[0] !== undefined && !argv[0].startsWith("-"))
    throw usage(`${JSON.stringify(argv[0])} is no command; expected ${COMMANDS.join(", ")}, or options`);
  const { options, canonical, words } = parse(argv, OPTIONS);
  if (options.help)
    return printHelp(host, { meta: META, args: OPTIONS }, { words: "[PROGRAM ARG…]", more: MORE });
  if (!options.exec && COMMANDS.includes(words[0] ?? ""))
    throw usage(`${JSON.stringify(words[0])} is a command; expected it before the options`);
  if (!options.exec) noWords(words);
  else if (words.length === 0) throw usage("option -e needs a program after the options");
  if (options.takeover !== undefined && (options.exec || options.socket !== undefined))
    throw usage("option --takeover goes with neither -e nor -s");
  if (options.register !== undefined && (options.exec || options.socket !== undefined))
    throw usage("option -P makes no listener, so that -e and -s have none to work with");
  return serve(host, {
    config: fileOption("-f", options.config),
    listener: listenerOverrides(options),
    identity: identityRequest(options),
    direct: direct(options),
    registration: options.register === undefined ? undefined : registration(options.register),
    inherited: descriptor("-s", options.socket)[0],
    takeover: options.takeover === undefined ? undefined : socketPathOption("--takeover", options.takeover),
    substitute: options.substitute === true,
    exec: options.exec ? words : undefined,
    idle: idleOptions(canonical),
    background: options.daemon
      ? [...canonical.filter((option) => option !== "--daemon"), "--", ...words]
      : undefined,
  });
}

type Name = keyof typeof OPTIONS;

/** For each option, those that mean nothing beside it. */
const LEAVES_IDLE: readonly (readonly [Name, readonly Name[]])[] = [
  ["register", ["address", "port", "transparent", "freebind", "exclusive", "reuse-port", "backlog"]],
  ["socket", ["address", "port", "transparent", "freebind", "exclusive", "reuse-port"]],
  ["send-to", ["config"]],
  ["send-fd", ["config", "substitute"]],
  ["exec", ["send-to", "send-fd", "substitute", "backlog", "clear-transparent"]],
];

function idleOptions(canonical: readonly string[]): Idle[] {
  const given = new Set(canonical.map((option) => /^--([^=]+)/.exec(option)![1]));
  const letter = (name: Name) => `-${(OPTIONS[name] as { alias: string }).alias}`;
  return LEAVES_IDLE.filter(([by]) => given.has(by)).flatMap(([by, names]) => {
    const idle = names.filter((name) => given.has(name)).map(letter);
    return idle.length === 0 ? [] : [{ by: letter(by), options: idle }];
  });
}

export function identityRequest(options: ParsedArgs<typeof IDENTITY_OPTIONS>): IdentityRequest {
  if (options["keep-groups"] && options.groups !== undefined)
    throw usage("options -k and -G exclude each other");
  return {
    user: options.user,
    group: options.group,
    groups: options.groups?.split(",").filter((name) => name !== ""),
    keepGroups: options["keep-groups"],
    chroot: options.chroot === undefined ? undefined : fileOption("-x", options.chroot),
  };
}

function listenerOverrides(options: ParsedArgs<typeof OPTIONS>): ListenerOverrides {
  return {
    ...(options.address !== undefined && listenAddress(options.address)),
    ...(options.port !== undefined && { port: numberOption("-p", options.port, 0, 65535) }),
    ...(options.transparent && { transparent: true }),
    ...(options.freebind && { freebind: true }),
    ...(options.exclusive && { reuseAddress: false }),
    ...(options["reuse-port"] && { reusePort: true }),
    ...(options["clear-transparent"] && { clearTransparent: true }),
    ...(options.backlog !== undefined && { backlog: numberOption("-b", options.backlog, 0, 0x7fffffff) }),
  };
}

/** Behind a link-local address, `%` and its interface, by name or number. */
function listenAddress(text: string): Pick<ListenerOverrides, "address" | "scope"> {
  return good(
    "-l",
    parseScoped("address", text, (scope) => parseScope(scope, interfaceIndex)),
  );
}

function direct(options: ParsedArgs<typeof OPTIONS>): ServeOptions["direct"] {
  const { "send-to": path, "send-fd": fd } = options;
  if (path !== undefined && fd !== undefined) throw usage("options -S and -i exclude each other");
  if (fd !== undefined) return { kind: "fd", fd: descriptor("-i", fd)[0]! };
  if (path === undefined) return undefined;
  return { kind: "unix", path: socketPathOption("-S", path) };
}

function registration(text: string): Registration {
  const [, slot, path] = /^(\d+):(.+)$/.exec(text) ?? [];
  if (slot === undefined || path === undefined) {
    throw usage(`-P: ${JSON.stringify(text)} is not a slot and a path; expected one such as 3:/run/registry`);
  }
  return { slot: numberOption("-P", slot, 0, SLOT_MAX), path: socketPathOption("-P", path) };
}

function descriptor(name: string, value: string | undefined): number[] {
  return value === undefined ? [] : [numberOption(name, value, 0, 0x7fffffff)];
}
