/**
 * How a thread is woken. One that is woken takes the processor from whoever runs there, which is right while
 * connections come one by one: each is handed off at once. Where so many come that no processor is free, it would run
 * for each of them, before the next, and before the receiver has made room; being patient (SCHED_BATCH, sched(7)), it
 * finds a batch, and costs half. On processors that are free there is no difference.
 *
 * Only then: a processor may be busy with others, and they would be waited for, too.
 */
import { native } from "../native/library.ts";
import type { Reactor } from "./reactor.ts";

const LOOK_MS = 100;

/** From so many connections on, between two looks, it is patient. Fewer cost a seventh of a processor at most. */
const MANY = 1000;

export class Patience {
  readonly #reactor: Reactor;
  #taken = 0;
  #looking = false;
  #patient = false;

  /** Of the thread that calls. */
  constructor(reactor: Reactor) {
    this.#reactor = reactor;
  }

  /** To be called with each batch. */
  took(count: number): void {
    this.#taken += count;
    if (!this.#looking) this.#lookLater();
  }

  #lookLater(): void {
    this.#looking = true;
    this.#reactor.after(LOOK_MS, () => this.#look());
  }

  #look(): void {
    const many = this.#taken >= MANY;
    this.#taken = 0;
    // A policy that somebody chose stays, and so does any where we may not choose: all works as well.
    if (many !== this.#patient) this.#patient = native.sb_wake_patiently(many ? 1 : 0) > 0 && many;
    this.#looking = false;
    if (this.#patient) this.#lookLater();
  }
}
