/** `socketbox`: the server, and the questions about its configuration. */
import type { ArgsDef } from "citty";
import { check } from "../programs/check.ts";
import { explain } from "../programs/explain.ts";
import type { Host } from "../programs/host.ts";
import { COMMON, endpointArgument, fileOption, noWords, parse, printHelp, usage } from "./options.ts";
import { CONFIG_OPTION, serveCommand } from "./serve.ts";

const QUESTION = { config: CONFIG_OPTION, help: COMMON.help } as const satisfies ArgsDef;

export async function socketbox(host: Host, argv: readonly string[]): Promise<number> {
  if (argv[0] === "check") return checkCommand(host, argv.slice(1));
  if (argv[0] === "explain") return explainCommand(host, argv.slice(1));
  return serveCommand(host, argv);
}

async function checkCommand(host: Host, argv: readonly string[]): Promise<number> {
  const { options, words } = parse(argv, QUESTION);
  if (options.help) {
    const meta = {
      name: "socketbox check",
      description: "Reads a configuration and says all that is wrong with it.",
    };
    return printHelp(
      host,
      { meta, args: QUESTION },
      { words: "", more: "Exit code 0: it can be used. 1: it would be refused." },
    );
  }
  noWords(words);
  return check(host, fileOption("-f", options.config));
}

async function explainCommand(host: Host, argv: readonly string[]): Promise<number> {
  const { options, words } = parse(argv, QUESTION);
  if (options.help) {
    const meta = {
      name: "socketbox explain",
      description: "Says where a connection would go, and which routes decide it.",
    };
    const more = "LOCAL and REMOTE follow: [2001:db8::1]:22, 192.0.2.1:22; a third word names the listener.";
    return printHelp(host, { meta, args: QUESTION }, { words: "LOCAL REMOTE [LISTENER]", more });
  }
  const [local, remote, listener, ...others] = words;
  if (local === undefined || remote === undefined)
    throw usage("explain needs LOCAL and REMOTE, each as [ADDRESS]:PORT");
  noWords(others);
  return explain(host, fileOption("-f", options.config), {
    local: endpointArgument("LOCAL", local),
    remote: endpointArgument("REMOTE", remote),
    listener,
  });
}
