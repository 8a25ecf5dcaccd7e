/**
 * The line format of the original socketbox: entries in numbered rule lists and maps, each of which becomes a table.
 * Whatever the original took by accident is an error here.
 */
import { ADDRESS_BYTES } from "../model/address.ts";
import type { Place } from "../model/diagnostic.ts";
import { LISTENER_DEFAULTS, type Reading, SERVER_DEFAULTS } from "./configuration.ts";
import { Fault, Findings, quoted } from "./fault.ts";
import {
  EntryReader,
  type Jump,
  SET_LAST,
  type SetKind,
  type SetName,
  tableName,
  titleOf,
} from "./line-entry.ts";
import { LineSet, MATCH_WORDS } from "./line-set.ts";
import { forms, splitWords, type Word } from "./line-words.ts";
import { parseNumber } from "./words.ts";

/** The most of anything that the original can hold. */
const CAPACITY_LAST = SET_LAST + 1;
const ADDRESS_BITS = 8 * ADDRESS_BYTES;

const BYTE_ORDER_MARK = "\ufeff";

const CAPACITIES = ["max-maps", "max-rules"];

/** The words that begin a line which is no entry, and what may follow each on its line. */
const FOLLOWERS: ReadonlyMap<string, readonly string[]> = new Map([
  ["rule-set", ["size"]],
  ["map-set", ["size"]],
  ["size", []],
  ...CAPACITIES.map((name) => [name, CAPACITIES] as const),
  ...MATCH_WORDS.map((name) => [name, MATCH_WORDS] as const),
]);

const START = tableName({ kind: "rule-set", number: 0 });

/** Reads a whole configuration in the line format; `file` is what places call it. */
export function readLines(file: string, text: string): Reading {
  const reader = new LineReader(file);
  for (const [index, line] of reader.withoutMark(text).split("\n").entries()) reader.read(index + 1, line);
  return reader.finish();
}

class LineReader {
  readonly #file: string;
  readonly #findings = new Findings();
  readonly #entries = new EntryReader(this.#findings);
  /** How many rule lists and maps the file says there are. */
  readonly #capacities = new Map<string, number>();
  /** By the name of their table, in the order in which they were first opened. */
  readonly #sets = new Map<string, LineSet>();
  /** Where entries go. One that is not among the sets takes entries which have no place of their own. */
  #open: LineSet | undefined;
  #hasCarriageReturn = false;
  /** Whether entries have gone astray: then a missing rule list 0 is no news. */
  #isAstray = false;

  constructor(file: string) {
    this.#file = file;
  }

  /** The original would take a byte order mark for part of the first word. */
  withoutMark(text: string): string {
    if (!text.startsWith(BYTE_ORDER_MARK)) return text;
    const place = { file: this.#file, line: 1, column: 1 };
    this.#findings.error(place, new Fault("the file begins with a byte order mark", "UTF-8 without one"));
    return text.slice(BYTE_ORDER_MARK.length);
  }

  read(line: number, text: string): void {
    if (text.startsWith("#")) return;
    const words = this.#withoutComment(splitWords(this.#file, line, this.#withoutReturn(line, text)));
    const first = words[0];
    if (!first) return;
    const followers = FOLLOWERS.get(first.name);
    if (followers) this.#readDirectives(first, words.slice(1), followers);
    else this.#readEntry(words);
  }

  finish(): Reading {
    for (const set of this.#sets.values()) {
      for (const { valuePlace } of set.openings) this.#checkCapacity(set, valuePlace);
    }
    for (const jump of this.#entries.jumps) this.#checkJump(jump);
    this.#checkStart();
    const tables = [...this.#sets.values()].map((set) => set.table(this.#findings));
    // Lookups start in the first table, wherever the file opens it.
    const draft = { tables: tables.sort((a, b) => Number(b.name === START) - Number(a.name === START)) };
    return this.#findings.reading({
      server: SERVER_DEFAULTS,
      listeners: [LISTENER_DEFAULTS],
      registries: [],
      draft,
    });
  }

  /** A comment that does not begin its line is told so once, not for each of its words. */
  #withoutComment(words: Word[]): Word[] {
    const index = words.findIndex(({ text }) => text.startsWith("#"));
    if (index < 0) return words;
    const fault = new Fault("a comment does not begin its line", '"#" as the first character of a line');
    this.#findings.error(words[index]!.place, fault);
    return words.slice(0, index);
  }

  /** A file with CRLF line ends is told so once, not on every line. */
  #withoutReturn(line: number, text: string): string {
    if (!text.endsWith("\r")) return text;
    if (!this.#hasCarriageReturn) {
      const place = { file: this.#file, line, column: text.length };
      this.#findings.error(
        place,
        new Fault("the line ends with a carriage return", "LF alone as the end of lines"),
      );
    }
    this.#hasCarriageReturn = true;
    return text.slice(0, -1);
  }

  #readEntry(words: readonly Word[]): void {
    const first = words[0]!;
    if (!this.#open) {
      // An unknown word may be a slip of rule-set: then it alone is what is wrong.
      const fault = new Fault("an entry outside any rule list or map", "rule-set:0 before it");
      if (!first.fault()) this.#findings.error(first.place, fault);
      this.#goAstray("rule-set");
    }
    const set = this.#open!;
    const entry = this.#entries.read(words, set.kind);
    if (!entry) set.faulty = true;
    const fault = entry && set.add(entry);
    if (fault) this.#findings.error(entry.place, fault);
  }

  #readDirectives(first: Word, rest: readonly Word[], followers: readonly string[]): void {
    this.#readDirective(first);
    for (const word of rest) {
      if (followers.includes(word.name)) this.#readDirective(word);
      else {
        const expected = `${followers.length > 0 ? `${forms(followers)} or ` : ""}the end of the line`;
        this.#findings.error(
          word.place,
          new Fault(`${quoted(word.text)} behind ${quoted(first.text)}`, expected),
        );
      }
    }
  }

  #readDirective(word: Word): void {
    const fault = word.fault() ?? this.#obey(word);
    if (!fault) return;
    this.#findings.error(word.place, fault);
    if (MATCH_WORDS.includes(word.name)) this.#open?.doubtKey();
    if (word.name === "rule-set" || word.name === "map-set") this.#goAstray(word.name);
  }

  #obey(word: Word): Fault | undefined {
    switch (word.name) {
      case "max-maps":
      case "max-rules":
        return this.#setCapacity(word);
      case "rule-set":
      case "map-set":
        return this.#openSet(word, word.name);
      case "size":
        return this.#setSize(word);
      default:
        return this.#compare(word);
    }
  }

  #setCapacity(word: Word): Fault | undefined {
    if (this.#capacities.has(word.name)) return new Fault(`a second ${word.name}`, "one in a file");
    this.#capacities.set(word.name, this.#number(word, 1, CAPACITY_LAST) ?? CAPACITY_LAST);
    return undefined;
  }

  #openSet(word: Word, kind: SetKind): undefined {
    const number = this.#number(word, 0, SET_LAST);
    if (number === undefined) return this.#goAstray(kind);
    const name = tableName({ kind, number });
    this.#open = this.#sets.get(name) ?? new LineSet(kind, number);
    this.#open.openings.push(word);
    this.#sets.set(name, this.#open);
  }

  #setSize(word: Word): Fault | undefined {
    this.#number(word, 1, CAPACITY_LAST);
    if (!this.#open)
      return new Fault("a size outside any rule list or map", "rule-set:N or map-set:N before it");
    if (this.#open.sized) return new Fault(`a second size of ${this.#open.title}`, "one for each");
    this.#open.sized = true;
    return undefined;
  }

  #compare(word: Word): Fault | undefined {
    const length = word.value === "" ? ADDRESS_BITS : (this.#number(word, 1, ADDRESS_BITS) ?? ADDRESS_BITS);
    if (this.#open?.kind !== "map-set") return new Fault(`${word.name} outside a map`, "map-set:N before it");
    return this.#open.compare(word.name, length);
  }

  /** The number of a word; one that is wrong is reported, and is no reason to stop reading. */
  #number(word: Word, first: number, last: number): number | undefined {
    const number = parseNumber(word.name, word.value, first, last);
    if (!(number instanceof Fault)) return number;
    this.#findings.error(word.valuePlace, number);
    return undefined;
  }

  /** What follows is still read for its own faults, and not taken for part of the set before. */
  #goAstray(kind: SetKind): undefined {
    this.#isAstray = true;
    this.#open = new LineSet(kind, 0);
  }

  #checkStart(): void {
    const start = this.#sets.get(START);
    if (start?.isEmpty) {
      this.#findings.error(start.place, new Fault("rule list 0 has no entries", "at least one"));
    } else if (!start && !this.#isAstray) {
      const place = { file: this.#file, line: 1, column: 1 };
      this.#findings.error(
        place,
        new Fault("there is no rule list 0, where every lookup starts", "rule-set:0"),
      );
    }
  }

  /** Whether the file says that there are so many sets; `place` is where one of them is named. */
  #checkCapacity(set: SetName, place: Place): boolean {
    const name = set.kind === "map-set" ? "max-maps" : "max-rules";
    const capacity = this.#capacities.get(name) ?? CAPACITY_LAST;
    if (set.number < capacity) return true;
    const fault = new Fault(`${titleOf(set)} is beyond ${name}:${capacity}`, `0 to ${capacity - 1}`);
    this.#findings.error(place, fault);
    return false;
  }

  #checkJump(jump: Jump): void {
    if (!this.#checkCapacity(jump, jump.place) || this.#sets.has(tableName(jump))) return;
    const fault = new Fault(
      `there is no ${titleOf(jump)}`,
      `${jump.kind}:${jump.number} somewhere in the file`,
    );
    this.#findings.error(jump.place, fault);
  }
}
