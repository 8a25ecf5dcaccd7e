/** The other side of our programs in Python, which has descriptor passing of its own (peer.py). */
import { join } from "node:path";
import { type Options, ROOT, Running } from "./running.ts";

const BEGIN = `import sys
sys.dont_write_bytecode = True
sys.path.insert(0, ${JSON.stringify(join(ROOT, "test/kit"))})
from peer import *
`;

/** The command that runs `code` with all of peer.py; arguments are in `sys.argv[1:]`. */
export function pythonCommand(code: string, ...args: readonly (string | number)[]): string[] {
  return ["python3", "-c", BEGIN + code, ...args.map(String)];
}

export function python(code: string, args: readonly (string | number)[] = [], options?: Options): Running {
  return new Running(pythonCommand(code, ...args), options);
}

/** Run to its end: what it printed on standard output. Throws when it fails. */
export async function pythonOutput(code: string, ...args: readonly (string | number)[]): Promise<string> {
  const running = python(code, args);
  const exit = await running.ended();
  if (exit !== 0) throw new Error(`python: exit ${exit}\n${running.log}`);
  return running.out;
}

/** The lines of JSON among what a program has printed. */
export function said<Line>(out: string): Line[] {
  return out
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
}

/** A server that answers every connection with `k`, on the port in argv[1]. */
export const ANSWERS = `
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    client.sendall(b"k")
    client.close()`;
