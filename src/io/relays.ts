/**
 * The table of relayed connections: pairs of sockets whose bytes go from each to the other. The helper moves them
 * where the reactor waits, and comes back only with what somebody has to decide; see cshim/relay.c.
 */
import { native } from "../native/library.ts";
import { structs } from "../native/structs.ts";
import { EVENT, type Reactor } from "./reactor.ts";

/** enum sb_relay_news */
export const NEWS = { client: 1, reached: 2, failed: 4, over: 8 } as const;

/** enum sb_join_flag */
const JOIN = { hold: 1, unix: 2 } as const;

/** enum sb_way_state, from this one on the way is over. */
const WAY_DONE = 1;
const WAY_BROKEN = 2;

/** Room for so many at first; doubled when it is full. */
const SLOTS = 64;
/** As many as the reactor takes events in one batch, and their number. */
const TOLD_WORDS = 257;

const { size, offsets } = structs.sb_relay;
const WORDS = size / 4;
/** Words of a record. */
const FIELD = {
  client: offsets.up_from / 4,
  target: offsets.up_to / 4,
  clientSeen: offsets.up_seen / 4,
  targetSeen: offsets.down_seen / 4,
  upState: offsets.up_state / 4,
  downState: offsets.down_state / 4,
  upMoved: offsets.up_moved / 4,
  downMoved: offsets.down_moved / 4,
  error: offsets.error / 4,
  culprit: offsets.culprit / 4,
  told: offsets.told / 4,
} as const;
const PIPES = { open: structs.sb_pipes.offsets.open / 4, limit: structs.sb_pipes.offsets.limit / 4 } as const;

/** Who decides about one connection. */
export interface Decider {
  /** `news` is a set of {@link NEWS}. */
  tell(news: number): void;
}

export class Relays implements Disposable {
  readonly #reactor: Reactor;
  readonly #pipesMore: () => number;
  readonly #pipes = new Int32Array(structs.sb_pipes.size / 4);
  readonly #deciders: (Decider | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #told = new Uint32Array(TOLD_WORDS);
  #table = new Int32Array(SLOTS * WORDS);

  /** `pipesMore`: how many pipes there are descriptors for, beside those that are open. */
  constructor(reactor: Reactor, pipesMore: () => number) {
    this.#reactor = reactor;
    this.#pipesMore = pipesMore;
    reactor.wait = (events, max) => this.#wait(events, max);
  }

  /** Pipes, in use or not. */
  get pipesOpen(): number {
    return this.#pipes[PIPES.open]!;
  }

  /**
   * Takes ownership of `client`, unless it fails: then the result is a negative errno. Otherwise it is the slot that
   * all other methods want.
   */
  open(client: number, nonblocking: boolean, decider: Decider): number {
    const slot = this.#free.pop() ?? this.#newSlot();
    const { epoll } = this.#reactor;
    const status = native.sb_relay_open(epoll, this.#table, slot, client, nonblocking ? 1 : 0);
    if (status < 0) {
      this.#free.push(slot);
      return status;
    }
    this.#deciders[slot] = decider;
    return slot;
  }

  /**
   * Takes ownership of `target`, which is connected or on its way, unless it fails: then the result is a negative
   * errno. With `hold` nothing moves before `move`.
   */
  join(slot: number, target: number, unix: boolean, hold: boolean): number {
    const flags = (unix ? JOIN.unix : 0) | (hold ? JOIN.hold : 0);
    return native.sb_relay_join(this.#reactor.epoll, this.#table, slot, target, flags);
  }

  /** Lets go of a target that has not been reached. */
  leave(slot: number): void {
    native.sb_relay_leave(this.#table, slot);
  }

  /**
   * Lets a held connection move. Its news is told at once. With an `errno` its target takes nothing any more, and is
   * only heard to the end.
   */
  move(slot: number, errno: number): void {
    this.#limitPipes();
    const news = native.sb_relay_move(this.#reactor.epoll, this.#table, slot, this.#pipes, errno);
    if (news > 0) this.#deciders[slot]?.tell(news);
  }

  /**
   * Closes both sockets; with `reset` their peers learn that it was not the proper end. `shared`: somebody else may
   * have the client open too.
   */
  close(slot: number, reset: boolean, shared: boolean): void {
    const { epoll } = this.#reactor;
    native.sb_relay_close(epoll, this.#table, slot, this.#pipes, reset ? 1 : 0, shared ? 1 : 0);
    this.#deciders[slot] = undefined;
    this.#free.push(slot);
  }

  client(slot: number): number {
    return this.#get(slot, FIELD.client);
  }

  /** Once joined. */
  target(slot: number): number {
    return this.#get(slot, FIELD.target);
  }

  /** All events that the client has shown before its target was reached. */
  clientEvents(slot: number): number {
    return this.#get(slot, FIELD.clientSeen);
  }

  /** Bytes that the target has taken. */
  up(slot: number): number {
    return this.#count(slot, FIELD.upMoved);
  }

  /** Bytes that the client has taken. */
  down(slot: number): number {
    return this.#count(slot, FIELD.downMoved);
  }

  /** One of the two has finished, the other goes on; or would, if it took what there is for it. */
  halfClosed(slot: number): boolean {
    const seen = this.#get(slot, FIELD.clientSeen) | this.#get(slot, FIELD.targetSeen);
    if (seen & (EVENT.readHangup | EVENT.hangup | EVENT.error)) return true;
    return this.#get(slot, FIELD.upState) >= WAY_DONE || this.#get(slot, FIELD.downState) >= WAY_DONE;
  }

  /** Whether one of the ways did not end as it should. */
  broken(slot: number): boolean {
    return this.#get(slot, FIELD.upState) === WAY_BROKEN || this.#get(slot, FIELD.downState) === WAY_BROKEN;
  }

  /** The first error; before the target is reached, why it was not. */
  errno(slot: number): number {
    return this.#get(slot, FIELD.error);
  }

  /** Whose it was. */
  culprit(slot: number): "client" | "target" {
    return this.#get(slot, FIELD.culprit) === this.client(slot) ? "client" : "target";
  }

  [Symbol.dispose](): void {
    native.sb_pipes_close(this.#pipes);
  }

  /** News is told before other events have their callbacks. */
  #wait(events: Int32Array, max: number): number {
    this.#limitPipes();
    const told = this.#told;
    const count = native.sb_relay_wait(this.#reactor.epoll, this.#table, this.#pipes, events, max, told);
    for (let i = 1; i <= told[0]!; i++) {
      const slot = told[i]!;
      const at = slot * WORDS + FIELD.told;
      const news = this.#table[at]!;
      this.#table[at] = 0;
      this.#deciders[slot]?.tell(news);
    }
    return count;
  }

  #limitPipes(): void {
    this.#pipes[PIPES.limit] = this.pipesOpen + this.#pipesMore();
  }

  #newSlot(): number {
    const slot = this.#deciders.length;
    this.#deciders.push(undefined);
    if (this.#deciders.length * WORDS > this.#table.length) {
      const larger = new Int32Array(this.#table.length * 2);
      larger.set(this.#table);
      this.#table = larger;
    }
    return slot;
  }

  #get(slot: number, field: number): number {
    return this.#table[slot * WORDS + field]!;
  }

  #count(slot: number, field: number): number {
    return this.#get(slot, field + 1) * 2 ** 32 + (this.#get(slot, field) >>> 0);
  }
}
