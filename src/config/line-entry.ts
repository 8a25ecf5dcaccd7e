/** An entry of the line format: what it matches and what becomes of the connection, on one line. */
import type { AddressPattern } from "../model/address.ts";
import type { Place } from "../model/diagnostic.ts";
import type { Receiver } from "../model/target.ts";
import type { Action } from "../routing/draft.ts";
import { Fault, type Findings, quoted } from "./fault.ts";
import { forms, type Word } from "./line-words.ts";
import { isRelative, pathFault } from "./path.ts";
import { Targets } from "./targets.ts";
import { FD_LAST, hostBitsFault, parseNumber, parsePattern, parsePort, withoutHostBits } from "./words.ts";

export type SetKind = "rule-set" | "map-set";

export interface SetName {
  readonly kind: SetKind;
  readonly number: number;
}

/** There are at most 1000 rule lists and 1000 maps. */
export const SET_LAST = 999;

export function tableName({ kind, number }: SetName): string {
  return `${kind} ${number}`;
}

/** As messages call it. */
export function titleOf({ kind, number }: SetName): string {
  return `${kind === "map-set" ? "map" : "rule list"} ${number}`;
}

/** A jump, whose destination may stand further down. */
export interface Jump extends SetName {
  readonly place: Place;
}

/** A value, and where it was written. */
export interface Named<Value> {
  readonly value: Value;
  readonly place: Place;
}

export interface Entry {
  readonly place: Place;
  readonly isDefault: boolean;
  /** By the names `ip` and `rip`. */
  readonly addresses: ReadonlyMap<string, Named<AddressPattern>>;
  /** By the names `port` and `rport`. */
  readonly ports: ReadonlyMap<string, Named<number>>;
  readonly action: Action;
}

const ADDRESSES = ["ip", "rip"];
const PORTS = ["port", "rport"];
const ACTIONS = ["jump-unix", "jump-fd", "jump-rule", "jump-map", "fail"];
const ENTRY_WORDS = [...ADDRESSES, ...PORTS, ...ACTIONS];

export class EntryReader {
  /** Every jump of every entry read so far. */
  readonly jumps: Jump[] = [];
  readonly #targets = new Targets();
  readonly #findings: Findings;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  /** The entry, or `undefined` when something is wrong with its line. */
  read(words: readonly Word[], kind: SetKind): Entry | undefined {
    const isDefault = words[0]!.text === "default";
    const named = words.slice(isDefault ? 1 : 0);
    const addresses = new Map<string, Named<AddressPattern>>();
    const ports = new Map<string, Named<number>>();
    let action: Action | undefined;
    let faulty = false;
    for (const [index, word] of named.entries()) {
      const fault = word.fault() ?? misplaced(word, named.slice(0, index), isDefault);
      const value = fault ?? this.#value(word, kind);
      if (value instanceof Fault) {
        this.#findings.error(fault ? word.place : word.valuePlace, value);
        faulty = true;
      } else if (typeof value === "number") ports.set(word.name, { value, place: word.valuePlace });
      else if ("mask" in value) addresses.set(word.name, { value, place: word.valuePlace });
      else action = value;
    }
    const place = words[0]!.place;
    if (action && !faulty) return { place, isDefault, addresses, ports, action };
    if (!faulty)
      this.#findings.error(place, new Fault("the entry has no action", `one of ${forms(ACTIONS)}`));
    return undefined;
  }

  #value(word: Word, kind: SetKind): AddressPattern | number | Action | Fault {
    if (ADDRESSES.includes(word.name)) return kind === "map-set" ? keyAddress(word) : this.#pattern(word);
    if (PORTS.includes(word.name)) return parsePort(word.name, word.value);
    return this.#action(word);
  }

  #pattern(word: Word): AddressPattern | Fault {
    const pattern = parsePattern(word.name, word.value);
    if (pattern instanceof Fault) return pattern;
    const fault = hostBitsFault(word.name, pattern);
    if (!fault) return pattern;
    this.#findings.warning(word.valuePlace, fault);
    return withoutHostBits(pattern);
  }

  #action(word: Word): Action | Fault {
    switch (word.name) {
      case "jump-unix":
        return this.#jumpUnix(word);
      case "jump-fd": {
        const fd = parseNumber("descriptor", word.value, 0, FD_LAST);
        return fd instanceof Fault ? fd : this.#target({ kind: "fd", fd });
      }
      case "jump-rule":
        return this.#jump(word, "rule-set");
      case "jump-map":
        return this.#jump(word, "map-set");
      default:
        return { kind: "deny" };
    }
  }

  #jumpUnix({ value: path, valuePlace }: Word): Action | Fault {
    const fault = pathFault(path);
    if (fault) return fault;
    if (isRelative(path)) {
      const expected = "/path: a server that changes its folder looks elsewhere";
      this.#findings.warning(valuePlace, new Fault(`path ${quoted(path)} is relative`, expected));
    }
    return this.#target({ kind: "unix", path });
  }

  #target(receiver: Receiver): Action {
    return { kind: "target", target: this.#targets.of(receiver) };
  }

  #jump(word: Word, kind: SetKind): Action | Fault {
    const number = parseNumber(word.name, word.value, 0, SET_LAST);
    if (number instanceof Fault) return number;
    this.jumps.push({ kind, number, place: word.valuePlace });
    return { kind: "table", table: tableName({ kind, number }) };
  }
}

/** Why `word` may not stand where it does, after the words `before` it. */
function misplaced(word: Word, before: readonly Word[], isDefault: boolean): Fault | undefined {
  const { name } = word;
  const isAction = ACTIONS.includes(name);
  if (name === "default") return new Fault('"default" is not the first word', "default, then an action");
  if (!ENTRY_WORDS.includes(name)) {
    return new Fault(`${quoted(word.text)} stands in an entry`, forms(ENTRY_WORDS));
  }
  if (isDefault && !isAction) {
    return new Fault(`${quoted(word.text)} stands in a default, which matches everything`, forms(ACTIONS));
  }
  if (before.some((other) => other.name === name)) return new Fault(`a second ${name}`, "one in each entry");
  if (isAction && before.some((other) => ACTIONS.includes(other.name))) {
    return new Fault(`${quoted(word.text)} is a second action`, "one in each entry");
  }
  return undefined;
}

/** An address in a map, where the map says which of its bits count. */
function keyAddress({ name, value }: Word): AddressPattern | Fault {
  const expected = "an address alone: match-lip and match-rip are its mask";
  return value.includes("/")
    ? new Fault(`${name} ${quoted(value)} has a mask`, expected)
    : parsePattern(name, value);
}
