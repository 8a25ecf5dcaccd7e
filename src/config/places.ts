/**
 * Places in a TOML file. The parser that reads good files keeps none. This one keeps them all and takes some fifteen
 * times as long, so it runs only when a place is looked at: in a diagnostic, or to explain a route.
 */
import { type AST, ParseError, parseTOML } from "toml-eslint-parser";
import type { Place } from "../model/diagnostic.ts";

/** The way from the top of the document to a value: `["route", 3, "port", 0]`. */
export type Way = readonly (string | number)[];

/** Line and column from 1; both 0 for nowhere. */
interface Spot {
  readonly line: number;
  readonly column: number;
}

interface Node {
  readonly key: Spot;
  readonly value: Spot;
  readonly children: Map<string | number, Node>;
}

const NOWHERE: Spot = { line: 0, column: 0 };
/** Should the two parsers ever disagree on what TOML is, a message without its line is better than none. */
const LOST: Node = { key: NOWHERE, value: NOWHERE, children: new Map() };

/** A word so long that this parser may have no room for it: it keeps every character of a string on the stack. */
const HUGE = /[^\r\n"'\\,=[\]{}#]{1000,}/g;
const KEPT = 100;

export class Places {
  readonly #text: string;
  #top: Node | undefined;

  constructor(
    readonly file: string,
    text: string,
  ) {
    this.#text = text.replace(/^\ufeff/, ""); // a byte order mark, which only the other parser takes
  }

  /** Where the value begins; for one that is missing, the innermost table or list that should hold it. */
  ofValue(way: Way): Place {
    return new TomlPlace(this, way, "value");
  }

  /** Where the last key of the way begins. */
  ofKey(way: Way): Place {
    return new TomlPlace(this, way, "key");
  }

  find(way: Way, part: "key" | "value"): Spot {
    this.#top ??= readTree(this.#text) ?? readCut(this.#text) ?? LOST;
    let node = this.#top;
    for (const step of way) {
      const child = node.children.get(step);
      if (!child) return node.value;
      node = child;
    }
    return node[part];
  }
}

/** Knows its way, and finds its line and column when they are read. It cannot be posted to another thread. */
class TomlPlace implements Place {
  readonly #places: Places;
  readonly #way: Way;
  readonly #part: "key" | "value";

  constructor(places: Places, way: Way, part: "key" | "value") {
    this.#places = places;
    this.#way = way;
    this.#part = part;
  }

  get file(): string {
    return this.#places.file;
  }

  get line(): number {
    return this.#places.find(this.#way, this.#part).line;
  }

  get column(): number {
    return this.#places.find(this.#way, this.#part).column;
  }
}

/** `undefined` where the parser cannot read it. */
function readTree(text: string): Node | undefined {
  const start = { line: 1, column: 1 };
  const top: Node = { key: start, value: start, children: new Map() };
  try {
    for (const item of parseTOML(text, { tomlVersion: "1.1" }).body[0].body) {
      if (item.type === "TOMLTable") addTable(top, item);
      else addPair(top, item);
    }
    return top;
  } catch (error) {
    if (error instanceof ParseError || error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The same without the rest of huge words; places are those in the whole text. */
function readCut(text: string): Node | undefined {
  const cuts: { line: number; column: number; length: number }[] = [];
  const lines = text.split("\n").map((whole, index) => {
    let gone = 0;
    return whole.replace(HUGE, (word, at: number) => {
      const length = word.length - KEPT;
      cuts.push({ line: index + 1, column: at - gone + KEPT, length });
      gone += length;
      return word.slice(0, KEPT);
    });
  });
  const moved = ({ line, column }: Spot): Spot => {
    const before = cuts.filter((cut) => cut.line === line && cut.column < column);
    return { line, column: before.reduce((sum, { length }) => sum + length, column) };
  };
  const restored = ({ key, value, children }: Node): Node => ({
    key: moved(key),
    value: moved(value),
    children: new Map([...children].map(([name, node]) => [name, restored(node)])),
  });
  const top = cuts.length > 0 ? readTree(lines.join("\n")) : undefined;
  return top && restored(top);
}

/** `[a.b]` or `[[a.b]]`: the header is where the table begins. */
function addTable(top: Node, { key, resolvedKey, loc, body }: AST.TOMLTable): void {
  const header = spot(loc.start);
  let node = top;
  let depth = 0;
  for (const step of resolvedKey) {
    const name = typeof step === "string" ? key.keys[depth++] : undefined;
    node = child(node, step, name ? spot(name.loc.start) : header, header);
  }
  for (const pair of body) addPair(node, pair);
}

/** `a.b = value` */
function addPair(parent: Node, { key, value }: AST.TOMLKeyValue): void {
  let node = parent;
  for (const name of key.keys) {
    const isLast = name === key.keys.at(-1);
    const start = spot(name.loc.start);
    node = child(node, nameOf(name), start, isLast ? spot(value.loc.start) : start);
  }
  addContent(node, value);
}

function addContent(node: Node, content: AST.TOMLContentNode): void {
  if (content.type === "TOMLInlineTable") {
    for (const pair of content.body) addPair(node, pair);
  } else if (content.type === "TOMLArray") {
    for (const [index, element] of content.elements.entries()) {
      const start = spot(element.loc.start);
      addContent(child(node, index, start, start), element);
    }
  }
}

/** The child of this name; its place is where it is first named. */
function child(parent: Node, step: string | number, key: Spot, value: Spot): Node {
  const known = parent.children.get(step);
  if (known) return known;
  const node: Node = { key, value, children: new Map() };
  parent.children.set(step, node);
  return node;
}

function nameOf(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === "TOMLBare" ? key.name : key.value;
}

function spot({ line, column }: AST.Position): Spot {
  return { line, column: column + 1 };
}
