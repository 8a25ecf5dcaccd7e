/**
 * Connections in order of arrival, as three arrays side by side: the helper sends straight from the descriptors, and
 * a connection that waits costs no object.
 */
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS } from "../routing/record.ts";

const SMALLEST = 64;

/** Fields of a connection beside its flow. */
const LISTENER = 0;
const SINCE = 1;
const NOTES = 2;

export class Queue {
  #fds = new Int32Array(SMALLEST);
  #flows = new Uint32Array(SMALLEST * FLOW_WORDS);
  #notes = new Float64Array(SMALLEST * NOTES);
  /** Index of the first, and one past the last. */
  #first = 0;
  #end = 0;

  get size(): number {
    return this.#end - this.#first;
  }

  /** The records of all flows; `recordAt` says where in it. */
  get flows(): Uint32Array {
    return this.#flows;
  }

  /** Puts the connection of the record at word `at` last. `since`: it has waited before. */
  add(flows: Uint32Array, at: number, listener: number, since = 0): void {
    if (this.#end === this.#fds.length) this.#makeRoom();
    const index = this.#end++;
    const record = index * FLOW_WORDS;
    for (let word = 0; word < FLOW_WORDS; word++) this.#flows[record + word] = flows[at + word]!;
    this.#fds[index] = flows[at + FLOW_FD_WORD]!;
    this.#notes[index * NOTES + LISTENER] = listener;
    this.#notes[index * NOTES + SINCE] = since;
  }

  /** The descriptors, from the first on; what comes after the last means nothing. Valid until the queue changes. */
  get fds(): Int32Array {
    return this.#first === 0 ? this.#fds : this.#fds.subarray(this.#first, this.#end);
  }

  /** Notes that those from the one at `position` (0: the first) on wait from `now` on, but for who has before. */
  stamp(position: number, now: number): void {
    for (let index = this.#first + position; index < this.#end; index++)
      this.#notes[index * NOTES + SINCE] ||= now;
  }

  since(position: number): number {
    return this.#notes[(this.#first + position) * NOTES + SINCE]!;
  }

  listener(position: number): number {
    return this.#notes[(this.#first + position) * NOTES + LISTENER]!;
  }

  /** Word of {@link flows} where the record of the one at `position` starts. */
  recordAt(position: number): number {
    return (this.#first + position) * FLOW_WORDS;
  }

  dropFirst(count: number): void {
    this.#first += count;
    if (this.#first === this.#end) this.#first = this.#end = 0;
  }

  dropLast(): void {
    this.#end--;
    if (this.#first === this.#end) this.#first = this.#end = 0;
  }

  /** Moves the first `count` behind what is in `other`, with the time since when they have waited. */
  moveTo(other: Queue, count: number): void {
    for (let position = 0; position < count; position++) {
      other.add(this.#flows, this.recordAt(position), this.listener(position), this.since(position));
    }
    this.dropFirst(count);
  }

  /** Closes the gaps that connections without a descriptor (-1) leave; the others keep their order. */
  dropClosed(): void {
    let to = this.#first;
    for (let from = this.#first; from < this.#end; from++) {
      if (this.#fds[from]! < 0) continue;
      if (to !== from) this.#move(from, from + 1, to);
      to++;
    }
    this.#end = to;
    this.dropFirst(0);
  }

  /** Moves everything to the front when at least half lies free there, and otherwise doubles the room. */
  #makeRoom(): void {
    if (this.#first < this.#fds.length / 2) {
      const [fds, flows, notes] = [this.#fds, this.#flows, this.#notes];
      this.#fds = new Int32Array(fds.length * 2);
      this.#flows = new Uint32Array(flows.length * 2);
      this.#notes = new Float64Array(notes.length * 2);
      this.#fds.set(fds);
      this.#flows.set(flows);
      this.#notes.set(notes);
    }
    this.#move(this.#first, this.#end, 0);
    this.#end -= this.#first;
    this.#first = 0;
  }

  #move(from: number, end: number, to: number): void {
    this.#fds.copyWithin(to, from, end);
    this.#flows.copyWithin(to * FLOW_WORDS, from * FLOW_WORDS, end * FLOW_WORDS);
    this.#notes.copyWithin(to * NOTES, from * NOTES, end * NOTES);
  }
}
