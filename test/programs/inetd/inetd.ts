/** Starting socketbox-inetd, and asking the programs behind it, with connections that Python hands over. */
import { pythonOutput } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { bin, type Options, type Running, ready } from "../../kit/running.ts";

export const testPython = testWith(program("python3"));
export const testRoot = testWith(program("python3"), root);

export const INETD = bin("socketbox-inetd");
export const sh = (script: string) => ["/bin/sh", "-c", script];

/** inetd with these words in front of PATH, and this shell script as its program. */
export function inetd(
  path: string,
  script: string,
  words: readonly string[] = [],
  options?: Options,
): Promise<Running> {
  return ready("socketbox-inetd", [...words, path, ...sh(script)], options);
}

/** What the program answers to one connection that is handed over at `path`. */
export function askThrough(path: string, text = "", address = "127.0.0.1"): Promise<string> {
  return pythonOutput("print(ask_through(*sys.argv[1:]), end='')", path, text, address);
}

/** One line of /proc/PID/status as its `cat` printed it. */
export function statusField(status: string, field: string): string {
  return new RegExp(`^${field}:[ \\t]*(.*?)[ \\t]*$`, "m").exec(status)?.[1] ?? "";
}
