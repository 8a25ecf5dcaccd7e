/** Programs called inside this process, with a world of their own. */
import { main } from "../../src/cli/main.ts";
import type { Host } from "../../src/programs/host.ts";

export interface Called {
  readonly code: number;
  /** Standard output. */
  readonly out: string;
  /** The log, line by line. */
  readonly log: readonly string[];
}

export async function call(name: string, argv: readonly string[], env: Host["env"] = {}): Promise<Called> {
  let out = "";
  const log: string[] = [];
  const host: Host = {
    name,
    env,
    self: [],
    out: (text) => {
      out += text;
    },
    log: (line) => void log.push(line),
    raw: (text) => void log.push(...text.trimEnd().split("\n")),
    onSignal: () => {},
  };
  const code = await main(host, argv);
  return { code, out: Bun.stripANSI(out), log };
}
