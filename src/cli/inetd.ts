/** `socketbox-inetd SOCKET PROGRAM…` and `socketbox-inetd-p SOCKET NR PROGRAM…`. */
import type { ArgsDef, ParsedArgs } from "citty";
import { parsePerSource } from "../config/relay-words.ts";
import type { Host } from "../programs/host.ts";
import { inetd as run } from "../programs/inetd.ts";
import type { Rate } from "../programs/limits.ts";
import { SLOT_MAX } from "../wire/registration.ts";
import {
  COMMON,
  durationOption,
  good,
  numberOption,
  parse,
  printHelp,
  socketPathOption,
  usage,
} from "./options.ts";
import { IDENTITY_OPTIONS, identityRequest } from "./serve.ts";

/** As many as anybody could run; a limit that is always there is one case less. */
const MAX_DEFAULT = 1_000_000;

const OPTIONS = {
  max: { type: "string", description: "at most N children at a time; more connections wait", valueHint: "N" },
  "per-source": {
    type: "string",
    description: "at most N from one address, or IPv6 /LEN; more are refused",
    valueHint: "N[/LEN]",
  },
  rate: {
    type: "string",
    description: "start at most N in any TIME (default 1s); more connections wait",
    valueHint: "N[/TIME]",
  },
  drain: { type: "string", description: "after SIGTERM, wait so long for children", valueHint: "TIME" },
  "from-uid": { type: "string", description: "take connections from this user alone", valueHint: "USER" },
  "no-new-privs": { type: "boolean", description: "children cannot gain privileges by an exec (sudo …)" },
  ...IDENTITY_OPTIONS,
  ...COMMON,
} as const satisfies ArgsDef;

const MORE = `
Each connection becomes descriptors 0 and 1 of the program, in a session of its own; 2 stays our standard error.
Its environment names the connection: PROTO, TCPLOCALIP, TCPLOCALPORT, TCPREMOTEIP, TCPREMOTEPORT, REMOTE_ADDR,
REMOTE_PORT, SERVER_ADDR, SERVER_PORT. TIME is a number of seconds, or such as 500ms, 10s, 2m.
A socket that systemd passes (ListenDatagram=SOCKET) is taken instead of bound; what is in it outlives us.
SIGTERM serves what has come, removes SOCKET and leaves children alone; a second one stops at once.

EXIT CODES

  0  it was told to stop           3  the system refused: SOCKET in use, no such program …
  2  the command line is wrong     11 the server it registered with has gone
`;

export async function inetd(host: Host, argv: readonly string[]): Promise<number> {
  const description = "Starts PROGRAM for each connection that is received at SOCKET.";
  const { options, words } = parse(argv, OPTIONS);
  if (options.help) return help(host, description, "SOCKET PROGRAM [ARG…]");
  const [path, ...command] = words;
  if (path === undefined || command.length === 0)
    throw usage("a socket and a program are needed: SOCKET PROGRAM [ARG…]");
  return run(host, { ...limits(options), path: socketPathOption("SOCKET", path), slot: undefined, command });
}

export async function inetdRegistered(host: Host, argv: readonly string[]): Promise<number> {
  const description = "Starts PROGRAM for each connection of slot NR of the server at SOCKET.";
  const { options, words } = parse(argv, OPTIONS);
  if (options.help) return help(host, description, "SOCKET NR PROGRAM [ARG…]");
  const [path, slot, ...command] = words;
  if (path === undefined || slot === undefined || command.length === 0) {
    throw usage("a socket, a slot and a program are needed: SOCKET NR PROGRAM [ARG…]");
  }
  return run(host, {
    ...limits(options),
    path: socketPathOption("SOCKET", path),
    slot: numberOption("NR", slot, 0, SLOT_MAX),
    command,
  });
}

function help(host: Host, description: string, words: string): Promise<number> {
  return printHelp(host, { meta: { name: host.name, description }, args: OPTIONS }, { words, more: MORE });
}

function limits(options: ParsedArgs<typeof OPTIONS>) {
  return {
    identity: identityRequest(options),
    fromUser: options["from-uid"],
    noNewPrivs: options["no-new-privs"] === true,
    max: options.max === undefined ? MAX_DEFAULT : numberOption("--max", options.max, 1, MAX_DEFAULT),
    perSource:
      options["per-source"] === undefined
        ? undefined
        : good("--per-source", parsePerSource(options["per-source"])),
    rate: options.rate === undefined ? undefined : rate(options.rate),
    drainMs: options.drain === undefined ? 0 : durationOption("--drain", options.drain),
  };
}

function rate(text: string): Rate {
  const [most = "", window = "1s", ...others] = text.split("/");
  if (others.length > 0)
    throw usage(`--rate: ${JSON.stringify(text)} has too many parts; expected N or N/TIME`);
  const windowMs = durationOption("--rate", window);
  if (windowMs === 0) throw usage("--rate: a window of no length; expected one such as 1s");
  return { most: numberOption("--rate", most, 1, MAX_DEFAULT), windowMs };
}
