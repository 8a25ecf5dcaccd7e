/** The ways of filled-in templates, by name. Those that nobody uses are let go of: each may hold a descriptor. */
export class Ways<Way> {
  readonly #ways = new Map<string, Way>();
  readonly #idleMax: number;
  readonly #isIdle: (way: Way) => boolean;
  readonly #close: (way: Way) => void;
  /** The hand of a clock that goes round all of them. */
  #hand = this.#ways.entries();

  constructor(idleMax: number, isIdle: (way: Way) => boolean, close: (way: Way) => void) {
    this.#idleMax = idleMax;
    this.#isIdle = isIdle;
    this.#close = close;
  }

  get(name: string): Way | undefined {
    return this.#ways.get(name);
  }

  /**
   * A client that walks through a whole prefix must not leave something behind for each address, nor cost more with
   * each: every new way pays for a look at a few others.
   */
  set(name: string, way: Way): void {
    for (let looks = 0; looks < LOOKS && this.#ways.size >= this.#idleMax; looks++) this.#lookAtNext();
    this.#ways.set(name, way);
  }

  delete(name: string): void {
    this.#ways.delete(name);
  }

  [Symbol.iterator](): IterableIterator<[string, Way]> {
    return this.#ways.entries();
  }

  get size(): number {
    return this.#ways.size;
  }

  #lookAtNext(): void {
    let next = this.#hand.next();
    if (next.done) {
      this.#hand = this.#ways.entries();
      next = this.#hand.next();
    }
    if (next.done || !this.#isIdle(next.value[1])) return;
    const [name, way] = next.value;
    this.#ways.delete(name);
    this.#close(way);
  }
}

/** Of how many others a new way finds out whether they are idle: more than one, so that they become fewer. */
const LOOKS = 4;
