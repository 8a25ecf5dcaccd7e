/**
 * One thread's event loop: descriptors with a callback, timers, and a blocking wait in the helper (epoll(7)). It
 * never awaits; what a callback does is done before the next one runs.
 */
import { SysError } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { EVENT_WORDS } from "../native/structs.ts";
import { Fd } from "./fd.ts";
import { type Timer, Timers } from "./timers.ts";

export type { Timer } from "./timers.ts";

/** The flags of epoll(7), by other names for PRI, ERR, HUP, RDHUP and ET. ERR and HUP are always watched. */
export const EVENT = {
  in: 0x1,
  urgent: 0x2,
  out: 0x4,
  error: 0x8,
  hangup: 0x10,
  readHangup: 0x2000,
  exclusive: 1 << 28,
  oneShot: 1 << 30,
  edge: 2 ** 31,
} as const;

const CTL = { add: 1, del: 2, mod: 3 } as const;
const BATCH = 256;
/** The helper takes an int; a timer that is later than that is only looked at before its time. */
const ALARM_MS_MAX = 0x7fffffff;

/** Called with the events that are set. */
export type Ready = (events: number) => void;

export interface Watch {
  /** Waits for other events from now on. */
  change(events: number): void;
  /** Must come before the descriptor is closed or passed on: an epoll registration outlives both. */
  cancel(): void;
  /** The same for one that is closed next, and that nobody else has: the kernel forgets it by itself. */
  forget(): void;
}

interface Watched {
  readonly generation: number;
  readonly ready: Ready;
}

export class Reactor implements Disposable {
  readonly #epoll = Fd.from(native.sb_epoll_create(), "epoll_create");
  readonly #events = new Int32Array(BATCH * EVENT_WORDS);
  readonly #watched: (Watched | undefined)[] = [];
  readonly #timers = new Timers();
  /** A timerfd(2): a timeout for each wait would have to be set up and taken back for each wait. */
  readonly #clock = Fd.from(native.sb_timer(), "timerfd_create");
  /** When it goes off. */
  #alarm = Number.POSITIVE_INFINITY;
  #generation = 0;
  #running = false;
  /** Waits for events that have callbacks, at most `max`, and returns how many it has put into `events`. */
  wait = (events: Int32Array, max: number): number =>
    native.sb_epoll_wait(this.#epoll.number, events, max, -1);

  constructor() {
    this.watch(this.#clock.number, EVENT.in, () => this.#fireTimers());
  }

  /** For registrations that are not the reactor's: who makes them keeps their events to itself, in `wait`. */
  get epoll(): number {
    return this.#epoll.number;
  }

  /** Calls `ready` whenever one of `events` is set on `fd`. The descriptor stays the caller's. */
  watch(fd: number, events: number, ready: Ready): Watch {
    this.#generation = (this.#generation + 1) >>> 0;
    const generation = this.#generation;
    this.#control(CTL.add, fd, events, generation);
    const watched: Watched = { generation, ready };
    this.#watched[fd] = watched;
    let watchedFor = events;
    return {
      change: (wanted) => {
        if (wanted !== watchedFor) this.#control(CTL.mod, fd, wanted, generation);
        watchedFor = wanted;
      },
      cancel: () => {
        if (this.#watched[fd] !== watched) return;
        this.#watched[fd] = undefined;
        this.#control(CTL.del, fd, 0, 0);
      },
      forget: () => {
        if (this.#watched[fd] === watched) this.#watched[fd] = undefined;
      },
    };
  }

  /** Calls `run` once, `ms` milliseconds from now. */
  after(ms: number, run: () => void): Timer {
    const due = performance.now() + ms;
    const timer = this.#timers.add(due, run);
    if (due < this.#alarm) this.#setAlarm();
    return timer;
  }

  /** Waits and dispatches until `stop()`; `turned` is called after each turn. */
  run(turned: () => void = () => {}): void {
    this.#running = true;
    while (this.#running) {
      this.turn();
      turned();
    }
  }

  stop(): void {
    this.#running = false;
  }

  /** One wait, and the callbacks of all that it brought. */
  turn(): void {
    const count = this.wait(this.#events, BATCH);
    for (let i = 0; i < count; i++) {
      const at = i * EVENT_WORDS;
      const fd = this.#events[at + 1]!;
      const watched = this.#watched[fd];
      // An earlier callback of this turn may have closed this descriptor, and another may have its number now.
      if (watched && watched.generation === this.#events[at + 2]! >>> 0) watched.ready(this.#events[at]!);
    }
  }

  [Symbol.dispose](): void {
    this.#clock.close();
    this.#epoll.close();
  }

  #control(operation: number, fd: number, events: number, generation: number): void {
    const result = native.sb_epoll_ctl(this.#epoll.number, operation, fd, events, generation);
    if (result < 0) throw new SysError(`epoll_ctl ${operation} on descriptor ${fd}`, -result);
  }

  #fireTimers(): void {
    this.#alarm = Number.NEGATIVE_INFINITY; // what is added meanwhile need not set it
    this.#timers.fire(performance.now());
    this.#setAlarm();
  }

  /** Setting it also takes back that it has gone off. */
  #setAlarm(): void {
    this.#alarm = this.#timers.next;
    const ms = Math.max(1, Math.ceil(this.#alarm - performance.now()));
    native.sb_timer_set(this.#clock.number, Number.isFinite(ms) ? Math.min(ms, ALARM_MS_MAX) : 0);
  }
}
