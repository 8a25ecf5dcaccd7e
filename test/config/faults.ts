/** What is wrong with a text, with places that a test marks in the text itself. */

import { formatDiagnostic } from "../../src/model/diagnostic.ts";
import { configure } from "../../src/programs/configure.ts";

const MARK = "»";

/** The text without its marks, and `line:column` of each, counted by hand and not by the readers. */
export function marked(written: string): { text: string; places: string[] } {
  const places: string[] = [];
  const lines = written.split("\n").map((line, index) => {
    const pieces = line.split(MARK);
    let column = 1;
    for (const piece of pieces.slice(0, -1)) {
      column += piece.length;
      places.push(`${index + 1}:${column}`);
    }
    return pieces.join("");
  });
  return { text: lines.join("\n"), places };
}

/** Every diagnostic of a file with this text, without the file's name in front. */
export function faultsOf(file: string, text: string): string[] {
  return configure(file, text).diagnostics.map((diagnostic) =>
    formatDiagnostic(diagnostic).slice(file.length + 1),
  );
}
