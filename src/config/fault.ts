/** A fault is what is wrong with one word; whoever knows where the word stands makes it a diagnostic. */
import { type Diagnostic, hasErrors, type Place } from "../model/diagnostic.ts";
import { circles } from "../routing/jumps.ts";
import type { Configuration, Reading } from "./configuration.ts";

export class Fault {
  constructor(
    readonly what: string,
    /** What would have been right; empty when `what` says it all. */
    readonly expected: string,
  ) {}
}

/** Everything that a reader finds wrong with a file: it goes on to the end, so that one look mends the file. */
export class Findings {
  readonly #found: Diagnostic[] = [];

  /** How many there are so far. */
  get count(): number {
    return this.#found.length;
  }

  error(place: Place, { what, expected }: Fault): void {
    this.#found.push({ severity: "error", place, what, expected });
  }

  warning(place: Place, { what, expected }: Fault): void {
    this.#found.push({ severity: "warning", place, what, expected });
  }

  /**
   * In the order of the file. A draft with errors in it is never compiled, and its circles are there all the same:
   * they are said now, not only once the rest has been mended.
   */
  reading(configuration: Configuration): Reading {
    if (!hasErrors(this.#found)) return { configuration, ...this.refusal() };
    this.#found.push(...circles(configuration.draft));
    return this.refusal();
  }

  /** The reading of a file that yields nothing. */
  refusal(): Reading {
    return { diagnostics: this.#found.sort((a, b) => comparePlaces(a.place, b.place)) };
  }
}

function comparePlaces(a: Place, b: Place): number {
  return a.line - b.line || a.column - b.column;
}

const LONGEST_SHOWN = 60;

/** `text` as a message shows it: cut to a line's length, and escaped. */
export function shown(text: string): string {
  return escaped(text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text);
}

/** Without characters that a terminal would obey, or take for the end of a line. */
export function escaped(text: string): string {
  return text.replace(/[\p{C}\u2028\u2029]/gu, (unsafe) => `\\u{${unsafe.codePointAt(0)!.toString(16)}}`);
}

export function quoted(text: string): string {
  return `"${shown(text)}"`;
}
