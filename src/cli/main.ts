/** Every program starts here; the one place that prints errors and picks exit codes. */
import { basename } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { escaped } from "../config/fault.ts";
import { SysError } from "../native/errno.ts";
import { EXIT, Failure, type Host } from "../programs/host.ts";
import { inetd, inetdRegistered } from "./inetd.ts";
import { preload } from "./preload.ts";
import { processHost } from "./process-host.ts";
import { query } from "./query.ts";
import { relay } from "./relay.ts";
import { send } from "./send.ts";
import { socketbox } from "./socketbox.ts";

/** Returns the exit code. */
export type Program = (host: Host, argv: readonly string[]) => Promise<number>;

const PROGRAMS: ReadonlyMap<string, Program> = new Map([
  ["socketbox", socketbox],
  ["socketbox-inetd", inetd],
  ["socketbox-inetd-p", inetdRegistered],
  ["socketbox-preload", preload],
  ["socketbox-relay", relay],
  ["send-receive-fd", send],
  ["socket-query", query],
]);

export async function main(host: Host, argv: readonly string[]): Promise<number> {
  const program = PROGRAMS.get(host.name);
  try {
    if (!program)
      throw new Failure(
        EXIT.usage,
        `this is not the name of a program; there are ${[...PROGRAMS.keys()].join(", ")}`,
      );
    // Bun has put this in the place of bytes that are not UTF-8, so that a path, say, would lead somewhere else.
    const lossy = argv.findIndex((word) => word.includes("\ufffd"));
    if (lossy >= 0) throw new Failure(EXIT.usage, `word ${lossy + 1} of the command line is not UTF-8`);
    if (argv[0] === "--version" || argv[0] === "-V") {
      host.out(`${host.name} ${packageFile.version}\n`);
      return EXIT.ok;
    }
    return await program(host, argv);
  } catch (error) {
    if (error instanceof Failure) {
      host.log(
        error.code === EXIT.usage ? `${escaped(error.message)}; see ${host.name} --help` : error.message,
      );
      return error.code;
    }
    if (error instanceof SysError) {
      host.log(error.message);
      return EXIT.system;
    }
    host.log(`a fault of ours, please report it: ${error instanceof Error ? error.stack : String(error)}`);
    return EXIT.internal;
  }
}

if (import.meta.main) {
  const { name, self, argv } = ownCommandLine();
  process.exit(await main(processHost(basename(name), self), argv));
}

/** bin/launch passes the program's name as first argument; a compiled executable goes by the name it has. */
function ownCommandLine(): { name: string; self: string[]; argv: string[] } {
  const [, script = "", ...argv] = process.argv;
  if (script.startsWith("/$bunfs/")) return { name: process.argv0, self: [process.execPath], argv };
  const [name = "", ...rest] = argv;
  return {
    name,
    self: [
      process.execPath,
      "--config=/dev/null",
      "--no-env-file",
      "--tsconfig-override=/dev/null",
      script,
      name,
    ],
    argv: rest,
  };
}
