/**
 * What an acceptor has to tell: exact counts, and a line for each connection given up, of which there may be far
 * too many to read. Up to a number of lines for each reason and target go out every second; the rest is one line
 * that says how many there were.
 */

import type { Reason } from "../model/reason.ts";
import { FLOW_WORDS } from "../routing/record.ts";

export interface Entry {
  readonly reason: Reason;
  /** Name of the target; empty where routing ended without one. */
  readonly target: string;
  /** The flow's record, and the index of its listener; absent in a summary. */
  readonly flow?: Uint32Array;
  readonly listener?: number;
  /** How many connections this entry stands for. */
  readonly count: number;
}

const LINES_PER_SECOND = 20;

interface Topic {
  readonly reason: Reason;
  readonly target: string;
  written: number;
  held: number;
}

export class Journal {
  readonly #emit: (entries: readonly Entry[]) => void;
  readonly #topics = new Map<string, Topic>();
  #pending: Entry[] = [];

  constructor(emit: (entries: readonly Entry[]) => void) {
    this.#emit = emit;
  }

  /** Notes one connection given up; `flows` holds its record at word `at`. */
  gaveUp(reason: Reason, target: string, flows: Uint32Array, at: number, listener: number): void {
    const topic = this.#topic(reason, target);
    if (topic.written === LINES_PER_SECOND) {
      topic.held++;
      return;
    }
    topic.written++;
    this.#pending.push({ reason, target, flow: flows.slice(at, at + FLOW_WORDS), listener, count: 1 });
  }

  /** Sends what was noted since the last time. */
  flush(): void {
    if (this.#pending.length === 0) return;
    this.#emit(this.#pending);
    this.#pending = [];
  }

  /** To be called once a second: sums up what was held back. */
  newSecond(): void {
    for (const { reason, target, held } of this.#topics.values()) {
      if (held > 0) this.#pending.push({ reason, target, count: held });
    }
    this.#topics.clear();
    this.flush();
  }

  #topic(reason: Reason, target: string): Topic {
    const key = `${reason} ${target}`;
    const known = this.#topics.get(key);
    if (known) return known;
    const topic = { reason, target, written: 0, held: 0 };
    this.#topics.set(key, topic);
    return topic;
  }
}
