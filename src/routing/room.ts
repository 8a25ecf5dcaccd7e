/**
 * How many connections may wait. A target has its own limit (`queue`) for all its ways together. Beside that, nobody
 * may fill the whole server: as in shared buffers of switches (Choudhury, Hahne, "Dynamic queue length thresholds",
 * 1998) a target has at most as many places as are left free, so that however many targets are dead, there is always
 * room for the others.
 */

/** The places of one acceptor. */
export interface Hall {
  /** How many are free. */
  readonly free: number;
  /** Whether there is anybody to leave room for. */
  readonly shared: boolean;
  /** Whether those who come now have been let in before, by somebody who had other places. */
  readonly readmits: boolean;
}

/** The places of one target. */
export class Room {
  /** How many connections wait for the target. */
  waiting = 0;
  limit: number;
  /** Whether it has several ways, of which one alone may take half of it at most. */
  divided: boolean;
  readonly #hall: Hall;

  constructor(limit: number, divided: boolean, hall: Hall) {
    this.limit = limit;
    this.divided = divided;
    this.#hall = hall;
  }

  /** How many more may wait on a way where `here` wait already. */
  more(here: number): number {
    if (this.#hall.readmits) return Number.POSITIVE_INFINITY;
    const total = this.#total();
    return Math.max(0, Math.min(total - this.waiting, this.#own(total) - here));
  }

  /** The same for some that wait for the target already, on another way. */
  moreOfOurs(here: number): number {
    return Math.max(0, this.#own(this.#total()) - here);
  }

  #total(): number {
    const { free, shared } = this.#hall;
    if (!shared && !this.divided) return this.limit;
    return Math.min(this.limit, this.waiting + Math.max(0, Math.ceil((free - this.waiting) / 2)));
  }

  #own(total: number): number {
    return this.divided ? Math.ceil(total / 2) : total;
  }
}
