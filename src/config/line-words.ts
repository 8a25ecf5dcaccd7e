/** The words of the original's line format, and how a line falls into them. */
import type { Place } from "../model/diagnostic.ts";
import { Fault, quoted } from "./fault.ts";

/** How each word is written; those with a colon need a value, the others take none. */
const FORMS: ReadonlyMap<string, string> = new Map([
  ["max-maps", "max-maps:N"],
  ["max-rules", "max-rules:N"],
  ["rule-set", "rule-set:N"],
  ["map-set", "map-set:N"],
  ["size", "size:N"],
  ["match-lip", "match-lip:LENGTH"],
  ["match-rip", "match-rip:LENGTH"],
  ["match-lport", "match-lport"],
  ["match-rport", "match-rport"],
  ["ip", "ip:ADDRESS"],
  ["rip", "rip:ADDRESS"],
  ["port", "port:N"],
  ["rport", "rport:N"],
  ["jump-unix", "jump-unix:PATH"],
  ["jump-fd", "jump-fd:N"],
  ["jump-rule", "jump-rule:N"],
  ["jump-map", "jump-map:N"],
  ["fail", "fail"],
  ["default", "default"],
]);

/** Words of these names, as a message lists them. */
export function forms(names: readonly string[]): string {
  return names.map((name) => FORMS.get(name)).join(", ");
}

/** `name` or `name:value`. */
export class Word {
  readonly name: string;
  /** Empty where the word has none. */
  readonly value: string;

  constructor(
    readonly text: string,
    readonly place: Place,
  ) {
    const colon = text.indexOf(":");
    this.name = colon < 0 ? text : text.slice(0, colon);
    this.value = colon < 0 ? "" : text.slice(colon + 1);
  }

  get valuePlace(): Place {
    return { ...this.place, column: this.place.column + this.name.length + 1 };
  }

  /** What is wrong with the word wherever it stands: the whole name counts, not only what comes before a colon. */
  fault(): Fault | undefined {
    const form = FORMS.get(this.name);
    if (form === undefined) {
      return new Fault(`${quoted(this.text)} is not a word of this format`, forms(similar(this.name)));
    }
    if (form === this.name) {
      return this.text === form ? undefined : new Fault(`${quoted(this.text)} takes no value`, form);
    }
    return this.value === "" ? new Fault(`${quoted(this.text)} has no value`, form) : undefined;
  }
}

/** The names that begin as `name` does; all of them when none does. */
function similar(name: string): string[] {
  const names = [...FORMS.keys()];
  const near = names.filter((known) => known.startsWith(name) || name.startsWith(known));
  return near.length > 0 ? near : names;
}

/** Words are separated by spaces and tabs; whatever else is in a line belongs to a word. */
export function splitWords(file: string, line: number, text: string): Word[] {
  const pieces = text.matchAll(/[^ \t]+/g);
  return Array.from(pieces, ({ 0: piece, index }) => new Word(piece, { file, line, column: index + 1 }));
}
