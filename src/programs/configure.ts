/** From a file to a table: reading, checking, compiling; and saying what is wrong. */
import { readFileSync } from "node:fs";
import type { Configuration, ListenerSettings } from "../config/configuration.ts";
import { decodeUtf8 } from "../config/encoding.ts";
import { readConfiguration } from "../config/read.ts";
import { type Diagnostic, formatDiagnostic, hasErrors } from "../model/diagnostic.ts";
import { describeErrno } from "../native/errno.ts";
import { compile } from "../routing/compile.ts";
import type { Draft, DraftRoute } from "../routing/draft.ts";
import type { Table } from "../routing/table.ts";
import { EXIT, Failure } from "./host.ts";

export interface Configured {
  readonly configuration: Configuration;
  readonly table: Table;
  readonly warnings: readonly Diagnostic[];
}

export interface Outcome {
  readonly diagnostics: readonly Diagnostic[];
  /** There exactly when no diagnostic is an error. */
  readonly configured?: Configured;
}

/** What the file holds. Throws a Failure that says why it cannot be had. */
export function readBytes(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw unreadable(file, error);
  }
}

/** The same as text. Throws a Failure, also for what is none. */
export function readText(file: string): string {
  return decodeText(file, readBytes(file));
}

/** Throws a Failure that says where it is not UTF-8. */
export function decodeText(file: string, bytes: Uint8Array): string {
  const text = decodeUtf8(file, bytes);
  if (typeof text === "string") return text;
  throw new Failure(EXIT.refused, formatDiagnostic(text));
}

export function unreadable(file: string, error: unknown): Failure {
  const { errno = 0, message } = error as NodeJS.ErrnoException;
  const why = errno < 0 ? describeErrno(-errno) : message;
  return new Failure(EXIT.refused, `${file}: error: it cannot be read: ${why}`);
}

/** Numbers for the names of listeners: the same for as long as a server runs, however often it reloads. */
export class ListenerNumbers {
  readonly #names: string[] = [];

  of(name: string): number {
    const known = this.#names.indexOf(name);
    return known < 0 ? this.#names.push(name) - 1 : known;
  }

  /** Whether there is more than one to tell apart. */
  get several(): boolean {
    return this.#names.length > 1;
  }

  name(number: number): string {
    return this.#names[number] ?? "";
  }

  /** Routes of a draft name listeners by their place in the file. */
  renumber(draft: Draft, listeners: readonly ListenerSettings[]): Draft {
    const numbers = listeners.map(({ name }) => this.of(name));
    if (numbers.every((number, index) => number === index)) return draft;
    const renumbered = (routes: readonly DraftRoute[]) =>
      routes.map((route) => ({ ...route, listeners: route.listeners.map((index) => numbers[index]!) }));
    return { tables: draft.tables.map((table) => ({ ...table, routes: renumbered(table.routes) })) };
  }
}

export function configure(file: string, text: string, numbers = new ListenerNumbers()): Outcome {
  const reading = readConfiguration(file, text);
  const { diagnostics } = reading;
  if (!reading.configuration) return { diagnostics };
  const { draft, listeners } = reading.configuration;
  const configuration = { ...reading.configuration, draft: numbers.renumber(draft, listeners) };
  const compiled = compile(configuration.draft);
  const all = [...diagnostics, ...compiled.diagnostics];
  if (hasErrors(all) || !compiled.table) return { diagnostics: all };
  return { diagnostics: all, configured: { configuration, table: compiled.table, warnings: all } };
}

/** The same, where a file that is wrong is the end. Throws a Failure with every error. */
export function mustConfigure(file: string, text: string, numbers?: ListenerNumbers): Configured {
  const { configured, diagnostics } = configure(file, text, numbers);
  if (configured) return configured;
  throw new Failure(
    EXIT.refused,
    ["the configuration is refused", ...diagnostics.map(formatDiagnostic)].join("\n"),
  );
}
