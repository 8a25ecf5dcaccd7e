/**
 * Names to addresses. The helper asks the system's resolver in threads of its own, one for each family, as RFC 8305
 * (section 3) wants it; answers come through a pipe.
 */
import type { Address } from "../model/address.ts";
import { interleave } from "../model/upstream.ts";
import { cString, native } from "../native/library.ts";
import { structs } from "../native/structs.ts";
import { Fd } from "./fd.ts";
import { EVENT, type Reactor, type Timer } from "./reactor.ts";
import { FAMILY } from "./socket.ts";

/** How long the other family's answer is waited for when one is there (RFC 8305: Resolution Delay). */
const RESOLUTION_DELAY_MS = 50;
/** getaddrinfo(3) tells no time to live. */
const FRESH_MS = 10_000;
const FAMILIES = [FAMILY.inet6, FAMILY.inet];

export interface Resolved {
  readonly address: Address;
  readonly scope: number;
}

type Done = (addresses: readonly Resolved[]) => void;

interface Entry {
  readonly name: string;
  readonly answers: Map<number, readonly Resolved[]>;
  pending: number;
  since: number;
  waiting: Done[];
  delay: Timer | undefined;
}

export class Names implements Disposable {
  readonly #reactor: Reactor;
  readonly #entries: Entry[] = [];
  #pipe: { readonly read: Fd; readonly write: Fd } | undefined;

  constructor(reactor: Reactor) {
    this.#reactor = reactor;
  }

  /** Calls `done` with the addresses in the order to try them; none when there are none. Perhaps at once. */
  lookUp(name: string, done: Done): void {
    const entry = this.#entry(name);
    const known = this.#known(entry);
    if (known.length > 0 && performance.now() - entry.since < FRESH_MS) {
      done(known);
      return;
    }
    entry.waiting.push(done);
    if (entry.pending === 0) this.#ask(entry);
  }

  [Symbol.dispose](): void {
    this.#pipe?.read.close();
    this.#pipe?.write.close();
  }

  #entry(name: string): Entry {
    const known = this.#entries.find((entry) => entry.name === name);
    if (known) return known;
    const entry = { name, answers: new Map(), pending: 0, since: 0, waiting: [], delay: undefined };
    this.#entries.push(entry);
    return entry;
  }

  #ask(entry: Entry): void {
    entry.answers.clear();
    const token = this.#entries.indexOf(entry);
    const { write } = this.#open();
    for (const family of FAMILIES) {
      if (native.sb_resolve(cString(entry.name), family, token, write.number) === 0) entry.pending++;
    }
    if (entry.pending === 0) this.#settle(entry);
  }

  #open() {
    if (this.#pipe) return this.#pipe;
    const ends = new Int32Array(3);
    Fd.from(native.sb_pipe(ends, 0), "pipe").take();
    const pipe = { read: new Fd(ends[0]!), write: new Fd(ends[1]!) };
    this.#pipe = pipe;
    this.#reactor.watch(pipe.read.number, EVENT.in, () => this.#read(pipe.read));
    return pipe;
  }

  #read(pipe: Fd): void {
    const { size, offsets } = structs.sb_answer;
    const bytes = new Uint8Array(size);
    while (native.sb_read(pipe.number, bytes, size) === size) {
      const view = new DataView(bytes.buffer);
      const count = view.getUint32(offsets.count, true);
      const addresses = Array.from({ length: count }, (_, index) => ({
        address: bytes.slice(offsets.addresses + 16 * index, offsets.addresses + 16 * (index + 1)),
        scope: view.getUint32(offsets.scopes + 4 * index, true),
      }));
      const entry = this.#entries[view.getUint32(offsets.token, true)]!;
      this.#answered(entry, view.getInt32(offsets.family, true), addresses);
    }
  }

  #answered(entry: Entry, family: number, addresses: readonly Resolved[]): void {
    entry.pending--;
    entry.answers.set(family, addresses);
    if (entry.pending === 0) this.#settle(entry);
    else if (addresses.length > 0)
      entry.delay = this.#reactor.after(RESOLUTION_DELAY_MS, () => this.#settle(entry));
  }

  #settle(entry: Entry): void {
    entry.delay?.cancel();
    entry.delay = undefined;
    entry.since = performance.now();
    const known = this.#known(entry);
    for (const done of entry.waiting.splice(0)) done(known);
  }

  #known({ answers }: Entry): Resolved[] {
    const all = FAMILIES.flatMap((family) => answers.get(family) ?? []);
    const order = interleave(all.map(({ address }) => address));
    return order.map((address) => all.find((one) => one.address === address)!);
  }
}
