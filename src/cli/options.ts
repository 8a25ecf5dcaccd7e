/** From a split command line to values of the right type; every refusal names the option. */
import { readlinkSync } from "node:fs";
import { resolve } from "node:path";
import { isatty } from "node:tty";
import { type ArgsDef, type CommandDef, type ParsedArgs, parseArgs, renderUsage } from "citty";
import { Fault } from "../config/fault.ts";
import { type Address, parseAddress } from "../model/address.ts";
import { durationMs } from "../model/duration.ts";
import { UNIX_PATH_MAX } from "../model/target.ts";
import { EXIT, Failure, type Host } from "../programs/host.ts";
import { splitArguments } from "./argv.ts";

export interface Parsed<T extends ArgsDef> {
  readonly options: ParsedArgs<T>;
  /** The options as they were understood, in their long form. */
  readonly canonical: readonly string[];
  /** What follows the options. */
  readonly words: readonly string[];
}

/** Every program answers to these. */
export const COMMON = {
  help: { type: "boolean", alias: "h", description: "print this text" },
  version: { type: "boolean", alias: "V", description: "print the version" },
} as const satisfies ArgsDef;

export function parse<T extends ArgsDef>(
  argv: readonly string[],
  definition: T,
  repeatable: readonly string[] = [],
): Parsed<T> {
  const { options, words } = splitArguments(argv, definition, repeatable);
  // It was answered before this if it came first; elsewhere it would pass for an option that does nothing.
  if (options.includes("--version")) throw usage("option --version stands alone");
  const parsed = parseArgs<T>([...options], definition);
  // citty takes --no-NAME for the opposite of an option NAME, and so never sets an option that is called no-NAME.
  const flags = options
    .filter((option) => option.startsWith("--no-"))
    .map((option) => [option.slice(2), true]);
  return { options: Object.assign(parsed, Object.fromEntries(flags)), canonical: options, words };
}

/** All values of an option that may be repeated. */
export function valuesOf(canonical: readonly string[], name: string): string[] {
  const start = `--${name}=`;
  return canonical.filter((option) => option.startsWith(start)).map((option) => option.slice(start.length));
}

/** What `--help` prints: what citty makes of the definition, `words` behind its usage line, and `more` below it. */
export async function printHelp<T extends ArgsDef>(
  host: Host,
  command: CommandDef<T>,
  { words, more }: { words: string; more: string },
): Promise<number> {
  const rendered = (await renderUsage(command)).replace(/\[OPTIONS\] */, `[OPTIONS]${words && ` ${words}`}`);
  const text = `${rendered.trimEnd()}\n\n${more.trim()}\n`;
  host.out(isatty(1) ? text : Bun.stripANSI(text));
  return EXIT.ok;
}

export function addressOption(name: string, value: string): Address {
  const address = parseAddress(value);
  if (!address)
    throw usage(`${name}: ${JSON.stringify(value)} is not an address; expected one such as :: or 192.0.2.1`);
  return address;
}

/** A decimal number within bounds, both included. */
export function numberOption(name: string, value: string, least: number, most: number): number {
  const isNumber = /^\d+$/.test(value);
  const number = Number(value);
  if (isNumber && number >= least && number <= most) return number;
  const what = isNumber ? "is out of range" : "is not a number";
  throw usage(`${name}: ${JSON.stringify(value)} ${what}; expected ${least} to ${most}`);
}

/** The path of a Unix socket, or `@name`; as it is written, for a way that is short may have a long one behind it. */
export function socketPathOption(name: string, path: string): string {
  if (path === "" || path === "@") throw usage(`${name}: ${JSON.stringify(path)} names nothing`);
  if (Buffer.byteLength(path) > UNIX_PATH_MAX)
    throw usage(`${name}: ${JSON.stringify(path)} is too long; expected at most ${UNIX_PATH_MAX} bytes`);
  return path;
}

/** A number of seconds, or with a unit: `500ms`, `10s`, `2m`, `1h`. In milliseconds. */
export function durationOption(name: string, value: string): number {
  const ms = durationMs(value);
  if (ms !== undefined) return ms;
  throw usage(`${name}: ${JSON.stringify(value)} is not a duration; expected one such as 500ms, 10s or 2m`);
}

/** A file that is found where the command was given, whatever the folder is later. */
export function fileOption(name: string, path: string): string {
  if (path === "") throw usage(`${name}: the path is empty`);
  // Of a folder that was removed the kernel says so; Bun would take its own for it.
  return resolve(readlinkSync("/proc/self/cwd"), path);
}

/** The value of an option that a reader of configurations reads. */
export function good<Value>(name: string, value: Value | Fault, expected?: string): Value {
  if (!(value instanceof Fault)) return value;
  throw usage(`${name}: ${value.what}; expected ${expected ?? value.expected}`);
}

export function usage(message: string): Failure {
  return new Failure(EXIT.usage, message);
}

export function noWords(words: readonly string[]): void {
  if (words.length > 0) throw usage(`${JSON.stringify(words[0])} is one word too many`);
}

export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

/** `[ADDRESS]:PORT`, or `A.B.C.D:PORT`. */
export function endpointArgument(name: string, value: string): Endpoint {
  const found = /^(?:\[(.+)\]|([\d.]+)):(\d+)$/.exec(value);
  const address = found && parseAddress(found[1] ?? found[2]!);
  if (!address)
    throw usage(`${name}: ${JSON.stringify(value)} is not an address and port; expected [ADDRESS]:PORT`);
  return { address, port: numberOption(name, found[3]!, 0, 65535) };
}
