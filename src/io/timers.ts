/** Timers in order of their time: a binary heap, in which each knows its place, so that cancelling is cheap. */

export interface Timer {
  cancel(): void;
}

interface Scheduled {
  readonly due: number;
  readonly run: () => void;
  /** Index in the heap; -1 when it is not there any more. */
  at: number;
}

export class Timers {
  /** Each is due no later than those at twice its index plus one and plus two. */
  readonly #heap: Scheduled[] = [];

  /** When the first is due; Infinity when there is none. */
  get next(): number {
    return this.#heap[0]?.due ?? Number.POSITIVE_INFINITY;
  }

  add(due: number, run: () => void): Timer {
    const scheduled: Scheduled = { due, run, at: this.#heap.length };
    this.#heap.push(scheduled);
    this.#rise(scheduled);
    return { cancel: () => this.#remove(scheduled) };
  }

  /** Runs what is due, in order; what that adds waits for the next call. */
  fire(now: number): void {
    const due: Scheduled[] = [];
    while (this.next <= now) {
      const first = this.#heap[0]!;
      this.#remove(first);
      due.push(first);
      first.at = due.length - 1;
    }
    for (const timer of due) {
      // One that ran before may have cancelled it.
      if (timer.at < 0) continue;
      timer.at = -1;
      timer.run();
    }
  }

  #remove(timer: Scheduled): void {
    const { at } = timer;
    timer.at = -1;
    if (this.#heap[at] !== timer) return;
    const last = this.#heap.pop()!;
    if (last === timer) return;
    this.#put(last, at);
    this.#rise(last);
    this.#sink(last);
  }

  #rise(timer: Scheduled): void {
    while (timer.at > 0) {
      const above = this.#heap[(timer.at - 1) >> 1]!;
      if (above.due <= timer.due) return;
      this.#swap(timer, above);
    }
  }

  #sink(timer: Scheduled): void {
    for (;;) {
      const [left, right] = [this.#heap[2 * timer.at + 1], this.#heap[2 * timer.at + 2]];
      const sooner = right && right.due < left!.due ? right : left;
      if (!sooner || sooner.due >= timer.due) return;
      this.#swap(timer, sooner);
    }
  }

  #swap(one: Scheduled, other: Scheduled): void {
    const { at } = one;
    this.#put(one, other.at);
    this.#put(other, at);
  }

  #put(timer: Scheduled, at: number): void {
    this.#heap[at] = timer;
    timer.at = at;
  }
}
