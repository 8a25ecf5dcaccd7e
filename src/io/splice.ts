/**
 * Two sockets whose bytes go from each to the other, through pipes that are there only while something waits. The
 * moving is done in the helper, as much as there is for one call; see sb_relay in cshim/splice.c.
 */
import { native } from "../native/library.ts";
import { structs } from "../native/structs.ts";
import type { Fd } from "./fd.ts";
import { EVENT } from "./reactor.ts";

/** How both sockets are to be watched. */
export const RELAY_EVENTS = EVENT.in + EVENT.out + EVENT.readHangup + EVENT.urgent + EVENT.edge;

/** What one turn of the reactor may move each way of one pair, so that the others get their turn. */
const BUDGET = 4 << 20;

/**
 * A large pipe moves more for each call. They are few, because a user who is not root may have 64 MiB in pipes
 * (pipe(7), pipe-user-pages-soft), and because what waits in them is memory; any further pipe has the usual 64 KiB.
 */
const LARGE_BYTES = 1 << 20;
const LARGE_PIPES = 32;
const IDLE_PIPES = 64;

/** enum sb_relay_result */
export const RESULT = { more: 1, over: 2, pipes: 4 } as const;

/** enum sb_way_state, from this one on the way is over. */
const WAY_DONE = 3;
const WAY_BROKEN = 4;

const { size, offsets } = structs.sb_relay;
const WORDS = size / 4;
const [UP, DOWN] = [offsets.up_from / 4, offsets.down_from / 4];
const WAY = {
  from: 0,
  to: (offsets.up_to - offsets.up_from) / 4,
  pipe: (offsets.up_pipe - offsets.up_from) / 4,
  held: (offsets.up_held - offsets.up_from) / 4,
  urgent: (offsets.up_urgent - offsets.up_from) / 4,
  state: (offsets.up_state - offsets.up_from) / 4,
  moved: (offsets.up_moved - offsets.up_from) / 4,
} as const;
const PIPE_WORDS = 3;

/** The pipes of one thread: one at hand, and those that are not in use. */
export class Pipes implements Disposable {
  readonly #mayOpen: () => boolean;
  /** Reading end, writing end, pages; -1: none could be had. */
  readonly spare = new Int32Array(PIPE_WORDS).fill(-1);
  readonly #idle: Int32Array[] = [];
  #open = 0;

  /** `mayOpen`: whether there are descriptors for one more. */
  constructor(mayOpen: () => boolean) {
    this.#mayOpen = mayOpen;
  }

  /** How many there are, in use or not. */
  get open(): number {
    return this.#open;
  }

  /** Sees to it that there is a spare one. Without, the helper copies. */
  refill(): void {
    if (this.spare[0]! >= 0) return;
    const idle = this.#idle.pop();
    if (idle) this.spare.set(idle);
    else if (this.#mayOpen() && native.sb_pipe(this.spare, this.#size) > 0) this.#open++;
    else this.spare.fill(-1);
  }

  get #size(): number {
    return this.#open < LARGE_PIPES ? LARGE_BYTES : 0;
  }

  /** Takes back a pipe that is empty. */
  giveBack(pipe: Int32Array): void {
    if (this.#idle.length < IDLE_PIPES) this.#idle.push(pipe.slice());
    else this.discard(pipe);
  }

  discard(pipe: Int32Array): void {
    native.sb_close(pipe[0]!);
    native.sb_close(pipe[1]!);
    this.#open--;
  }

  [Symbol.dispose](): void {
    if (this.spare[0]! >= 0) this.discard(this.spare);
    this.spare.fill(-1);
    for (const pipe of this.#idle.splice(0)) this.discard(pipe);
  }
}

/** A client and a target, joined. Owns both. */
export class Splice {
  readonly #record = new Int32Array(WORDS);
  readonly #unsigned = new Uint32Array(this.#record.buffer);
  readonly #client: Fd;
  readonly #target: Fd;
  readonly #pipes: Pipes;

  constructor(client: Fd, target: Fd, pipes: Pipes) {
    this.#client = client;
    this.#target = target;
    this.#pipes = pipes;
    const record = this.#record;
    for (const [way, from, to] of [
      [UP, client, target],
      [DOWN, target, client],
    ] as const) {
      record[way + WAY.from] = from.number;
      record[way + WAY.to] = to.number;
      record.fill(-1, way + WAY.pipe, way + WAY.pipe + PIPE_WORDS);
      record[way + WAY.urgent] = -1;
    }
  }

  /** Moves what these events of the two sockets allow. Returns a set of {@link RESULT}. */
  move(clientEvents: number, targetEvents: number): number {
    const pipes = this.#pipes;
    pipes.refill();
    const result = native.sb_relay(this.#record, pipes.spare, clientEvents, targetEvents, BUDGET);
    if (result & RESULT.pipes) this.#sortPipes();
    return result;
  }

  /** Bytes that the target has taken. */
  get up(): number {
    return this.#moved(UP);
  }

  /** Bytes that the client has taken. */
  get down(): number {
    return this.#moved(DOWN);
  }

  /** The low halves of both counts: differs from its last value when something has moved. */
  get trace(): number {
    return this.#unsigned[UP + WAY.moved]! * 31 + this.#unsigned[DOWN + WAY.moved]!;
  }

  /** One of the two has finished, the other goes on. */
  get halfClosed(): boolean {
    return this.#record[UP + WAY.state]! >= WAY_DONE || this.#record[DOWN + WAY.state]! >= WAY_DONE;
  }

  /** Whether one of the ways did not end as it should. */
  get broken(): boolean {
    return this.#record[UP + WAY.state] === WAY_BROKEN || this.#record[DOWN + WAY.state] === WAY_BROKEN;
  }

  /** The first error, and whose it was. */
  get failure(): { readonly errno: number; readonly side: "client" | "target" } {
    const errno = this.#record[offsets.error / 4]!;
    return { errno, side: this.#record[offsets.culprit / 4] === this.#client.number ? "client" : "target" };
  }

  /** Closes both; with `reset` their peers learn that it was not the proper end. */
  close(reset: boolean): void {
    for (const way of [UP, DOWN]) {
      const pipe = this.#pipeOf(way);
      if (pipe[0]! >= 0) this.#release(pipe, this.#record[way + WAY.held]! > 0);
    }
    for (const fd of [this.#client, this.#target]) {
      if (reset) native.sb_reset(fd.take());
      else fd.close();
    }
  }

  #moved(way: number): number {
    const low = this.#unsigned[way + WAY.moved]!;
    return this.#unsigned[way + WAY.moved + 1]! * 2 ** 32 + low;
  }

  #pipeOf(way: number): Int32Array {
    return this.#record.subarray(way + WAY.pipe, way + WAY.pipe + PIPE_WORDS);
  }

  /** Takes back a pipe that is empty, and lets go of one whose content has nowhere to go any more. */
  #sortPipes(): void {
    for (const way of [UP, DOWN]) {
      const pipe = this.#pipeOf(way);
      if (pipe[0]! < 0) continue;
      const held = this.#record[way + WAY.held]! > 0;
      if (held && this.#record[way + WAY.state]! < WAY_DONE) continue;
      this.#release(pipe, held);
    }
  }

  #release(pipe: Int32Array, held: boolean): void {
    if (held) this.#pipes.discard(pipe);
    else this.#pipes.giveBack(pipe);
    pipe.fill(-1);
  }
}
