/** `socketbox-preload`: a program that believes to listen. */
import type { ArgsDef } from "citty";
import { parseRange } from "../config/mapping.ts";
import { parseAddress } from "../model/address.ts";
import type { Host } from "../programs/host.ts";
import { type BindQuestion, checkBinds, printPath, preload as run } from "../programs/preload.ts";
import { COMMON, noWords, parse, printHelp, usage, valuesOf } from "./options.ts";

const OPTIONS = {
  map: {
    type: "string",
    alias: "m",
    description: "what becomes of a bind; may be given several times, the first that matches counts",
    valueHint: "SPEC",
  },
  default: {
    type: "string",
    description: "all other binds: deny (EACCES; the default), or direct (the real bind)",
    valueHint: "deny|direct",
  },
  check: {
    type: "string",
    description: "print what a bind to this would do, and start nothing; may be given several times",
    valueHint: "[ADDRESS:]PORT",
  },
  "print-path": { type: "boolean", description: "print the library's path, for PROGRAM if it is given" },
  "no-follow": { type: "boolean", description: "do not stay with programs that are executed without it" },
  "no-io-uring": { type: "boolean", description: "io_uring_setup(2) is ENOSYS, so that programs do without" },
  ...COMMON,
} as const satisfies ArgsDef;

const REPEATABLE = ["map", "check"];

const MORE = `
SPEC is [ADDRESS:]PORT[-PORT]=WHAT, for TCP sockets that are bound to that address and port:

  80=/run/web.sock                   receive connections at this Unix datagram socket, whatever the address
  [::1]:443=/run/tls.sock            only for binds to [::1]; IPv6 addresses in brackets
  *:6379=@redis                      * is any address; @NAME is in the abstract namespace
  8000-8010=/run/app/{port}.sock     {port} becomes the port that is bound
  8080=direct                        the real bind
  22=deny, 22=deny:EADDRINUSE        bind fails with EACCES, or with EADDRINUSE

SPECs may stand in the variable SOCKETBOX_MAP too, with spaces between them; they come after those of --map.
The variables of the original (SKBOX_DIRECTORY_ROOT2 …) go on working, with a map or without; see PRELOAD.md.

EXIT CODES

  the program's own, once it has been started
  1  the library cannot get into the program; or a bind of --check would be refused
  2  the command line, the map or a variable is wrong
  3  there is no such program, or no place for the library
`;

export async function preload(host: Host, argv: readonly string[]): Promise<number> {
  const { options, canonical, words } = parse(argv, OPTIONS, REPEATABLE);
  const meta = {
    name: host.name,
    description: "Runs PROGRAM, which receives passed connections where it believes to listen.",
  };
  if (options.help)
    return printHelp(host, { meta, args: OPTIONS }, { words: "[--] PROGRAM [ARG…]", more: MORE });
  if (options["print-path"]) {
    noWords(words.slice(1));
    return printPath(host, words[0]);
  }
  const map = { specs: valuesOf(canonical, "map"), otherwise: defaultAction(options.default) };
  const questions = valuesOf(canonical, "check").flatMap(bindQuestions);
  if (questions.length > 0) {
    noWords(words);
    return checkBinds(host, map, questions);
  }
  if (words.length === 0) throw usage("a program is needed: PROGRAM [ARG…]");
  return run(host, {
    ...map,
    command: words,
    follow: !options["no-follow"],
    ioUring: !options["no-io-uring"],
  });
}

function defaultAction(text: string | undefined): "deny" | "direct" | undefined {
  if (text === undefined || text === "deny" || text === "direct") return text;
  throw usage(`--default: ${JSON.stringify(text)} is neither deny nor direct`);
}

/** A port alone stands for both wildcards; `%N` behind an IPv6 address is its scope. */
function bindQuestions(text: string): BindQuestion[] {
  const [, before = text, scope, after = ""] = /^(\[[^%\]]*)%(\d{1,9})(\].*)$/.exec(text) ?? [];
  const range = parseRange(before + after);
  if (typeof range === "string") throw usage(`--check: ${range}`);
  if (range.first !== range.last) throw usage(`--check: ${JSON.stringify(text)} has more than one port`);
  const addresses = range.address ? [range.address] : ["0.0.0.0", "::"].map((any) => parseAddress(any)!);
  return addresses.map((address) => ({ address, port: range.first, scope: Number(scope ?? 0) }));
}
