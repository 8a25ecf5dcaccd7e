/**
 * Lets the control plane wait for descriptors although it lives in Bun's event loop: a thread waits in its place
 * (lookout-thread.ts) and posts what is ready. Each watch is told once (EPOLLONESHOT) and then armed again, so that
 * nobody can flood the main thread faster than it looks.
 */
import { Worker } from "node:worker_threads";
import { Fd } from "../io/fd.ts";
import { EVENT, type Ready, type Watch } from "../io/reactor.ts";
import { lookoutScript } from "../native/assets.ts";
import { check } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { EVENT_WORDS } from "../native/structs.ts";

/** epoll_ctl(2) */
const CTL = { add: 1, del: 2, mod: 3 } as const;

interface Watched {
  readonly generation: number;
  readonly ready: Ready;
  events: number;
}

export class Lookout {
  readonly #epoll = Fd.from(native.sb_epoll_create(), "epoll_create");
  readonly #watched = new Map<number, Watched>();
  #generation = 0;

  /** Resolves once its thread has loaded its code: after a chroot it could not. */
  static async start(): Promise<Lookout> {
    const worker = new Worker(lookoutScript);
    await new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
    return new Lookout(worker);
  }

  private constructor(worker: Worker) {
    worker.on("message", (events: Int32Array) => this.#dispatch(events));
    worker.postMessage(this.#epoll.number);
  }

  /** Calls `ready` in the main thread whenever one of `events` is set on `fd`, which stays the caller's. */
  watch(fd: number, events: number, ready: Ready): Watch {
    const generation = ++this.#generation;
    const watched: Watched = { generation, ready, events };
    this.#watched.set(fd, watched);
    this.#control(CTL.add, fd, watched);
    return {
      forget: () => void this.#watched.delete(fd),
      change: (wanted) => {
        watched.events = wanted;
        this.#control(CTL.mod, fd, watched);
      },
      cancel: () => {
        if (this.#watched.get(fd) !== watched) return;
        this.#watched.delete(fd);
        native.sb_epoll_ctl(this.#epoll.number, CTL.del, fd, 0, 0);
      },
    };
  }

  #dispatch(events: Int32Array): void {
    for (let at = 0; at < events.length; at += EVENT_WORDS) {
      const fd = events[at + 1]!;
      const watched = this.#watched.get(fd);
      if (watched?.generation !== events[at + 2]!) continue; // cancelled meanwhile
      watched.ready(events[at]!);
      if (this.#watched.get(fd) === watched) this.#control(CTL.mod, fd, watched);
    }
  }

  #control(operation: number, fd: number, { events, generation }: Watched): void {
    const result = native.sb_epoll_ctl(this.#epoll.number, operation, fd, events | EVENT.oneShot, generation);
    check(result, `watch descriptor ${fd}`);
  }
}
