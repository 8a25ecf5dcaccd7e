/** What is wrong with a file, and where: errors as values with a place. */

export interface Place {
  readonly file: string;
  /** From 1; 0 where the fault has no line, such as a file that cannot be read. */
  readonly line: number;
  /** From 1, in UTF-16 units as editors count; 0 where the fault has no column. */
  readonly column: number;
}

export interface Diagnostic {
  readonly severity: "error" | "warning";
  readonly place: Place;
  readonly what: string;
  /** What would have been right; empty when `what` says it all. */
  readonly expected: string;
}

/** `file:line:col: error: what is wrong; expected …` */
export function formatDiagnostic({ severity, place, what, expected }: Diagnostic): string {
  return `${formatPlace(place)}: ${severity}: ${what}${expected ? `; expected ${expected}` : ""}`;
}

export function formatPlace({ file, line, column }: Place): string {
  return [file, ...(line ? [line] : []), ...(column ? [column] : [])].join(":");
}

export function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some((diagnostic) => diagnostic.severity === "error");
}
