/**
 * The way to a target: one candidate after the other until one is reached, and for a name its addresses in the
 * manner of RFC 8305 (happy eyeballs): the next one is tried when one fails, or after a quarter of a second beside it.
 */
import type { RelaySettings } from "../../config/relay.ts";
import { beginConnect, type ConnectFrom, connectResult, isUnderWay } from "../../io/connect.ts";
import type { Fd } from "../../io/fd.ts";
import type { Names } from "../../io/names.ts";
import { EVENT, type Reactor, type Timer, type Watch } from "../../io/reactor.ts";
import { formatUpstream, type Hop, type Upstream } from "../../model/upstream.ts";
import { ERRNO, errnoName, SysError } from "../../native/errno.ts";
import { native } from "../../native/library.ts";

/** RFC 8305, section 5: Connection Attempt Delay. */
const NEXT_ADDRESS_MS = 250;
/** A full backlog of a Unix socket raises no event when it has room again. */
const BACKLOG_RETRY_MS = 20;
/** Want of descriptors, of memory or of watches (epoll(7)) passes when some connection ends; perhaps another's. */
export const SHORTAGE_RETRY_MS = 100;
export const SHORTAGES: ReadonlySet<number> = new Set([
  ERRNO.EMFILE,
  ERRNO.ENFILE,
  ERRNO.ENOMEM,
  ERRNO.ENOBUFS,
  ERRNO.ENOSPC, // of epoll(7): too many watches
]);
/** Causes that a log line lists; a name may have many addresses. */
const CAUSES_SHOWN = 6;

export interface Candidate {
  /** Index of the target. */
  readonly index: number;
  readonly upstream: Upstream;
}

/** What an approach finds around it. */
export interface ApproachSurroundings {
  readonly settings: Pick<RelaySettings, "timeouts">;
  readonly reactor: Reactor;
  readonly names: Names;
  /** One of several could not be reached, and the next is tried. */
  missed(index: number, cause: string): void;
  /** Nothing can be connected now for want of descriptors or memory. */
  shortage(errno: number): void;
}

export interface ApproachEvents {
  /** The descriptor is the listener's. It is registered with the reactor's epoll(7), and nobody watches it. */
  reached(index: number, hop: Hop, fd: Fd): void;
  /** None could be; `causes` says why not, `timedOut` that the last one never answered. */
  failed(causes: string, timedOut: boolean): void;
}

interface Attempt {
  readonly fd: Fd;
  readonly watch: Watch;
}

export class Approach {
  readonly #around: ApproachSurroundings;
  readonly #from: ConnectFrom;
  readonly #events: ApproachEvents;
  readonly #candidates: Candidate[];
  readonly #attempts = new Set<Attempt>();
  readonly #causes: string[];
  #current: Candidate | undefined;
  /** What is left to try of the current candidate. */
  #hops: Hop[] = [];
  /** Ends the current candidate's time. */
  #deadline: Timer | undefined;
  #next: Timer | undefined;
  #lastErrno: number;
  #over = false;

  /** `causes`, and the last one's `errno`: why others, before these candidates, were not reached. */
  constructor(
    around: ApproachSurroundings,
    from: ConnectFrom,
    candidates: readonly Candidate[],
    causes: readonly string[],
    errno: number,
    events: ApproachEvents,
  ) {
    this.#around = around;
    this.#from = from;
    this.#candidates = [...candidates];
    this.#causes = [...causes];
    this.#lastErrno = errno;
    this.#events = events;
  }

  begin(): void {
    const candidate = this.#candidates.shift();
    if (!candidate) {
      this.cancel();
      const shown = this.#causes.slice(0, CAUSES_SHOWN).join(", ");
      const more = this.#causes.length - CAUSES_SHOWN;
      this.#events.failed(more > 0 ? `${shown}, ${more} more` : shown, this.#lastErrno === ERRNO.ETIMEDOUT);
      return;
    }
    this.#current = candidate;
    this.#lastErrno = 0;
    const { reactor, names, settings } = this.#around;
    const timeoutMs = settings.timeouts.connect;
    if (timeoutMs > 0) this.#deadline = reactor.after(timeoutMs, () => this.#miss(ERRNO.ETIMEDOUT));
    const { upstream } = candidate;
    if (upstream.kind !== "name") {
      this.#hops = [upstream];
      this.#tryNext();
      return;
    }
    names.lookUp(upstream.name, (found) => {
      if (this.#over || this.#current !== candidate) return;
      this.#hops = found.map((one) => ({ kind: "inet", ...one, port: upstream.port }));
      if (found.length === 0) this.#causes.push(`${formatUpstream(upstream)} has no address`);
      this.#tryNext();
    });
  }

  /** Lets go of everything that is under way. */
  cancel(): void {
    this.#over = true;
    this.#clear();
  }

  #tryNext(): void {
    this.#next?.cancel();
    this.#next = undefined;
    for (;;) {
      const hop = this.#hops.shift();
      if (!hop) {
        if (this.#attempts.size === 0) this.#miss();
        return;
      }
      const begun = this.#attempt(hop);
      if (begun === 0) return;
      if (SHORTAGES.has(-begun) || begun === -ERRNO.EAGAIN) {
        this.#tryLater(hop, -begun);
        return;
      }
      this.#note(hop, -begun);
    }
  }

  #tryLater(hop: Hop, errno: number): void {
    this.#hops.unshift(hop);
    this.#lastErrno = errno;
    const delay = errno === ERRNO.EAGAIN ? BACKLOG_RETRY_MS : SHORTAGE_RETRY_MS;
    this.#next = this.#around.reactor.after(delay, () => this.#tryNext());
    if (errno !== ERRNO.EAGAIN) this.#around.shortage(errno);
  }

  /** 0, or a negative errno. */
  #attempt(hop: Hop): number {
    const fd = beginConnect(hop, this.#from);
    if (typeof fd === "number") return fd;
    const attempt = this.#watched(hop, fd);
    if (typeof attempt === "number") {
      fd.close();
      return attempt;
    }
    this.#attempts.add(attempt);
    // A Unix socket is connected when connect(2) returns.
    if (hop.kind === "unix") this.#progress(hop, attempt, 0);
    else if (this.#hops.length > 0)
      this.#next = this.#around.reactor.after(NEXT_ADDRESS_MS, () => this.#tryNext());
    return 0;
  }

  #watched(hop: Hop, fd: Fd): Attempt | number {
    try {
      const watch = this.#around.reactor.watch(fd.number, EVENT.out, (events) =>
        this.#progress(hop, attempt, events),
      );
      const attempt: Attempt = { fd, watch };
      return attempt;
    } catch (error) {
      if (error instanceof SysError) return -error.errno;
      throw error;
    }
  }

  #progress(hop: Hop, attempt: Attempt, events: number): void {
    const result = isConnected(events) ? 0 : outcome(attempt.fd);
    if (isUnderWay(result)) return;
    this.#attempts.delete(attempt);
    if (result < 0) {
      drop(attempt);
      this.#note(hop, -result);
      this.#tryNext();
      return;
    }
    this.cancel();
    attempt.watch.forget();
    this.#events.reached(this.#current!.index, hop, attempt.fd);
  }

  /** The current candidate is given up; the next one's turn. */
  #miss(errno?: number): void {
    const { index, upstream } = this.#current!;
    if (errno !== undefined) {
      const waited = this.#lastErrno === ERRNO.EAGAIN ? "backlog full" : errnoName(errno);
      const short = SHORTAGES.has(this.#lastErrno) ? errnoName(this.#lastErrno) : waited;
      this.#causes.push(`${formatUpstream(upstream)} ${short}`);
      this.#lastErrno = errno;
    }
    this.#clear();
    this.#around.missed(index, this.#causes.at(-1) ?? formatUpstream(upstream));
    if (!this.#over) this.begin();
  }

  #note(hop: Hop, errno: number): void {
    this.#lastErrno = errno;
    this.#causes.push(`${formatUpstream(hop)} ${errnoName(errno)}`);
  }

  #clear(): void {
    this.#deadline?.cancel();
    this.#next?.cancel();
    this.#deadline = this.#next = undefined;
    this.#hops = [];
    for (const attempt of this.#attempts) drop(attempt);
    this.#attempts.clear();
  }
}

function drop({ fd, watch }: Attempt): void {
  watch.forget();
  fd.close();
}

/** A socket can be written before it is connected only where that has failed. */
function isConnected(events: number): boolean {
  return (events & (EVENT.out | EVENT.error | EVENT.hangup)) === EVENT.out;
}

const byte = new Uint8Array(1);

/**
 * As connectResult. Whoever has answered, and reset the connection since, was reached: its answer is there to be read,
 * and the error is left for whoever reads it. Where there is nothing to read, looking takes the error.
 */
function outcome(fd: Fd): number {
  const peeked = native.sb_peek(fd.number, byte, byte.length);
  if (peeked > 0) return 0;
  return peeked === 0 || peeked === -ERRNO.EAGAIN ? connectResult(fd) : peeked;
}
