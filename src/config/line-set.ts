/** A rule list or a map of the line format: what was read for it, and the table that it makes. */
import { type Address, formatAddress, prefixMask } from "../model/address.ts";
import type { Place } from "../model/diagnostic.ts";
import type { DraftRoute, DraftTable } from "../routing/draft.ts";
import { Fault, type Findings } from "./fault.ts";
import { type Entry, type SetKind, type SetName, tableName, titleOf } from "./line-entry.ts";
import { forms, type Word } from "./line-words.ts";
import { hostBitsFault, withoutHostBits } from "./words.ts";

/** The words that say what a map compares, and the word in an entry that each is about. */
const COMPARISONS: ReadonlyMap<string, string> = new Map([
  ["match-lip", "ip"],
  ["match-rip", "rip"],
  ["match-lport", "port"],
  ["match-rport", "rport"],
]);
export const MATCH_WORDS = [...COMPARISONS.keys()];

export class LineSet implements SetName {
  /** Each place where the file turns to this set. */
  readonly openings: Word[] = [];
  sized = false;
  /** Whether one of its entries was wrong: then it may look emptier than it was meant. */
  faulty = false;
  readonly #entries: Entry[] = [];
  #default: Entry | undefined;
  /** What a map compares: for `ip` and `rip` which of their bits, for `port` and `rport` all. */
  readonly #key = new Map<string, Address>();
  #doubtful = false;

  constructor(
    readonly kind: SetKind,
    readonly number: number,
  ) {}

  get title(): string {
    return titleOf(this);
  }

  /** Where the file first turns to it. */
  get place(): Place {
    return this.openings[0]!.place;
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0 && !this.#default && !this.faulty;
  }

  /** One of {@link MATCH_WORDS} was wrong: what the map was meant to compare is not known. */
  doubtKey(): void {
    this.#doubtful = true;
  }

  /** Takes one of {@link MATCH_WORDS}, with the number of bits for an address. */
  compare(word: string, length: number): Fault | undefined {
    const name = COMPARISONS.get(word)!;
    if (this.#key.has(name)) return new Fault(`a second ${word} in ${this.title}`, "one in each map");
    this.#key.set(name, prefixMask(length));
    return undefined;
  }

  add(entry: Entry): Fault | undefined {
    if (!entry.isDefault) {
      this.#entries.push(entry);
      return undefined;
    }
    if (this.#default)
      return new Fault(`a second default in ${this.title}`, "one, and it holds wherever it stands");
    this.#default = entry;
    return undefined;
  }

  /** What can be said only when everything has been read. */
  table(findings: Findings): DraftTable {
    const { place } = this;
    const isMap = this.kind === "map-set";
    if (isMap && this.#key.size === 0 && !this.#doubtful) {
      findings.error(place, new Fault(`${this.title} compares nothing`, `one of ${forms(MATCH_WORDS)}`));
    }
    const entries = isMap ? this.#keyed(findings) : this.#entries;
    const routes = [...entries, ...(this.#default ? [this.#default] : [])].map(routeOf);
    return { name: tableName(this), place, routes };
  }

  /** The entries of a map, reduced to what the map compares. */
  #keyed(findings: Findings): Entry[] {
    const lines = new Map<string, number>();
    return this.#entries.map((written) => {
      const entry = this.#reduced(written, findings);
      const key = keyText(entry);
      const line = lines.get(key);
      if (line === undefined) lines.set(key, entry.place.line);
      else
        findings.error(entry.place, new Fault(`the same key as on line ${line}`, "each key once in a map"));
      return entry;
    });
  }

  #reduced(entry: Entry, findings: Findings): Entry {
    this.#compareNames(entry, findings);
    const addresses = new Map(entry.addresses);
    for (const [name, { value, place }] of entry.addresses) {
      const mask = this.#key.get(name);
      const pattern = mask && { address: value.address, mask };
      const fault = pattern && hostBitsFault(name, pattern);
      if (fault) findings.warning(place, fault);
      if (pattern) addresses.set(name, { value: withoutHostBits(pattern), place });
      else addresses.delete(name);
    }
    const ports = new Map([...entry.ports].filter(([name]) => this.#key.has(name)));
    return { ...entry, addresses, ports };
  }

  #compareNames(entry: Entry, findings: Findings): void {
    if (this.#key.size === 0 || this.#doubtful) return; // that is what is wrong, and said elsewhere
    for (const [comparison, name] of COMPARISONS) {
      const named = entry.addresses.get(name) ?? entry.ports.get(name);
      const compared = this.#key.has(name);
      if (named && !compared) {
        const expected = `${forms([comparison])} in the map, or an entry without ${name}`;
        findings.warning(named.place, new Fault(`${this.title} does not compare ${name}`, expected));
      } else if (compared && !named) {
        const expected = `${forms([name])}, or this entry fits whatever it is`;
        findings.warning(
          entry.place,
          new Fault(`the entry has no ${name}, which ${this.title} compares`, expected),
        );
      }
    }
  }
}

function keyText({ addresses, ports }: Entry): string {
  const ends = ["ip", "rip"].map((name) => addresses.get(name)?.value.address);
  const numbers = ["port", "rport"].map((name) => ports.get(name)?.value);
  return [...ends.map((address) => address && formatAddress(address)), ...numbers].join(" ");
}

function routeOf({ place, addresses, ports, action }: Entry): DraftRoute {
  const patterns = (name: string) => [addresses.get(name)?.value].filter((value) => value !== undefined);
  const ranges = (name: string) =>
    [ports.get(name)?.value]
      .filter((port) => port !== undefined)
      .map((port) => ({ first: port, last: port }));
  return {
    place,
    local: patterns("ip"),
    localPorts: ranges("port"),
    remote: patterns("rip"),
    remotePorts: ranges("rport"),
    listeners: [],
    action,
  };
}
