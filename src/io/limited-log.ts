/**
 * Lines that others can cause as often as they like: of each kind some go out every second, the rest is one line that
 * says how many there were. Whoever may send to us cannot fill a disk with our log.
 */

const LINES_PER_SECOND = 20;
/** Kinds that are told apart in one second; what is beyond counts together. */
const KINDS_MAX = 1000;

interface Kind {
  written: number;
  held: number;
}

export class LimitedLog {
  readonly #log: (line: string) => void;
  readonly #later: (ms: number, run: () => void) => void;
  readonly #kinds = new Map<string, Kind>();
  #summing = false;

  /** `later` runs something once after so many milliseconds. */
  constructor(log: (line: string) => void, later: (ms: number, run: () => void) => void) {
    this.#log = log;
    this.#later = later;
  }

  /** `kind` is what the line has in common with others, `line` what it says, the same unless given. */
  say(kind: string, line = kind): void {
    const known = this.#kind(kind);
    if (known.written === LINES_PER_SECOND) known.held++;
    else {
      known.written++;
      this.#log(line);
    }
    if (this.#summing) return;
    this.#summing = true;
    this.#later(1000, () => {
      this.#summing = false;
      this.flush();
    });
  }

  /** Says at once what was held back. */
  flush(): void {
    for (const [name, { held }] of this.#kinds) if (held > 0) this.#log(`${name} (${held} times more)`);
    this.#kinds.clear();
  }

  #kind(name: string): Kind {
    const key = this.#kinds.has(name) || this.#kinds.size < KINDS_MAX ? name : "other lines";
    const known = this.#kinds.get(key);
    if (known) return known;
    const kind = { written: 0, held: 0 };
    this.#kinds.set(key, kind);
    return kind;
  }
}
