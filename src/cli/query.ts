/** `socket-query`: the addresses of an inherited socket. */
import type { ArgsDef } from "citty";
import type { Host } from "../programs/host.ts";
import { query as run } from "../programs/query.ts";
import { COMMON, noWords, numberOption, parse, printHelp, usage } from "./options.ts";

const OPTIONS = {
  fd: { type: "string", alias: "f", description: "the socket", valueHint: "FD", default: "0" },
  local: { type: "boolean", alias: "l", description: "the local side alone" },
  remote: { type: "boolean", alias: "r", description: "the remote side alone" },
  address: { type: "boolean", alias: "a", description: "with -l or -r: the address alone" },
  port: { type: "boolean", alias: "p", description: "with -l or -r: the port alone" },
  raw: { type: "boolean", alias: "R", description: "upper-case hex without brackets" },
  ...COMMON,
} as const satisfies ArgsDef;

const MORE = "Without -l and -r both sides are printed on one line, the local one first.";

export async function query(host: Host, argv: readonly string[]): Promise<number> {
  const { options, words } = parse(argv, OPTIONS);
  const meta = { name: host.name, description: "Prints the addresses of an inherited socket." };
  if (options.help) return printHelp(host, { meta, args: OPTIONS }, { words: "", more: MORE });
  noWords(words);
  const { local, remote, address, port, raw } = options;
  if (local && remote) throw usage("options -l and -r exclude each other");
  if (address && port) throw usage("options -a and -p exclude each other");
  if ((address || port) && !local && !remote) throw usage("options -a and -p need -l or -r");
  return run(host, {
    fd: numberOption("-f", options.fd, 0, 0x7fffffff),
    side: local ? "local" : remote ? "remote" : undefined,
    part: address ? "address" : port ? "port" : undefined,
    raw: raw === true,
  });
}
