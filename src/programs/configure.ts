/** From a file to a table: reading, checking, compiling; and saying what is wrong. */
import { readFileSync } from "node:fs";
import type { Configuration } from "../config/configuration.ts";
import { readConfiguration } from "../config/read.ts";
import { type Diagnostic, formatDiagnostic, hasErrors } from "../model/diagnostic.ts";
import { compile } from "../routing/compile.ts";
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

/** The text of the file. Throws a Failure that says why it cannot be had. */
export function readText(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(file));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(
      EXIT.refused,
      `${file}: error: ${code === "ERR_ENCODING_INVALID_ENCODED_DATA" ? "not UTF-8 text" : (error as Error).message}`,
    );
  }
}

export function configure(file: string, text: string): Outcome {
  const { configuration, diagnostics } = readConfiguration(file, text);
  if (!configuration) return { diagnostics };
  const compiled = compile(configuration.draft);
  const all = [...diagnostics, ...compiled.diagnostics];
  if (hasErrors(all) || !compiled.table) return { diagnostics: all };
  return { diagnostics: all, configured: { configuration, table: compiled.table, warnings: all } };
}

/** The same, where a file that is wrong is the end. Throws a Failure with every error. */
export function mustConfigure(file: string, text: string): Configured {
  const { configured, diagnostics } = configure(file, text);
  if (configured) return configured;
  throw new Failure(
    EXIT.refused,
    ["the configuration is refused", ...diagnostics.map(formatDiagnostic)].join("\n"),
  );
}
