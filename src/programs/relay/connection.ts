/** One relayed connection, from its arrival to its end. */
import type { RelaySettings } from "../../config/relay.ts";
import { beginConnect, type ConnectFrom } from "../../io/connect.ts";
import type { Fd } from "../../io/fd.ts";
import type { Names } from "../../io/names.ts";
import { takeProxyHeader } from "../../io/proxy-header.ts";
import { EVENT, type Reactor, type Timer } from "../../io/reactor.ts";
import { type Decider, NEWS, type Relays } from "../../io/relays.ts";
import type { Flow } from "../../model/flow.ts";
import { headerOf } from "../../model/proxy.ts";
import { formatUpstream, type Hop, type Upstream, upstreamOf } from "../../model/upstream.ts";
import { ERRNO, errnoName } from "../../native/errno.ts";
import { native } from "../../native/library.ts";
import { FLOW_FD_WORD } from "../../native/structs.ts";
import { FLOW_WORDS, flowOf } from "../../routing/record.ts";
import { encodeProxy, type ProxyExtras, type ProxyHeader } from "../../wire/proxy.ts";
import { Approach, SHORTAGE_RETRY_MS, SHORTAGES } from "./approach.ts";
import type { Inlet } from "./inlet.ts";
import { CUT_OFF, type Ending } from "./reasons.ts";
import type { Counted } from "./tally.ts";

/** What a connection finds around it. */
export interface Surroundings {
  readonly settings: RelaySettings;
  readonly inlet: Inlet;
  readonly reactor: Reactor;
  readonly names: Names;
  readonly relays: Relays;
  /** Sockets of the namespace that targets are in. */
  readonly sockets: Fd | undefined;
  /** A name for the connection in PROXY headers. */
  uniqueId(): Uint8Array;
  /** Its true addresses are known. Returns whether there may be one more from there. */
  admit(connection: Connection): boolean;
  /** Indexes of the targets in the order to try them. */
  order(connection: Connection): readonly number[];
  reached(index: number): void;
  missed(index: number, cause: string): void;
  shortage(errno: number): void;
  ended(connection: Connection, ending: Ending, detail: string): void;
}

export class Connection implements Decider, Counted {
  readonly #around: Surroundings;
  /** As it came: a flow record, whose addresses are looked at only where something depends on them. */
  readonly #record: Uint32Array;
  #flow: Flow | undefined;
  /** Of the table of relayed connections; negative when it is not there. */
  #slot = -1;
  /** When it came, and when its present stage began; performance.now(). */
  readonly since: number;
  #stageSince: number;
  #stage: "new" | "header" | "connecting" | "relaying" | "over" = "new";
  /** Tries again to begin. */
  #later: Timer | undefined;
  admitted = false;
  source: string | undefined;
  #extras: ProxyExtras | undefined;
  /** The targets that were to be tried, and the one of them that is. */
  #order: readonly number[] = [];
  #index = -1;
  #hop: Hop | undefined;
  /** Beyond the first attempt. */
  #approach: Approach | undefined;
  /** Bytes to the target and to the client, once it is over. */
  up = 0;
  down = 0;
  #moved = 0;
  #lastMoved = 0;

  /** Takes ownership of the descriptor in the record that starts at word `at` of `flows`. */
  constructor(around: Surroundings, flows: Uint32Array, at: number, now: number) {
    this.#around = around;
    this.#record = flows.slice(at, at + FLOW_WORDS);
    this.since = now;
    this.#stageSince = now;
  }

  /** True addresses: a PROXY header's, where one was received. */
  get flow(): Flow {
    this.#flow ??= flowOf(this.#record, 0, 0);
    return this.#flow;
  }

  /** Once it is reached. */
  get target(): string | undefined {
    return this.targetIndex === undefined ? undefined : formatUpstream(this.#hop!);
  }

  targetIndex: number | undefined;

  begin(): void {
    const { relays, inlet, settings } = this.#around;
    const fd = this.#record[FLOW_FD_WORD]! | 0;
    this.#slot = relays.open(fd, inlet.accepts, this);
    if (this.#slot < 0) {
      this.#cannotBegin(-this.#slot);
      return;
    }
    const header = settings.proxy.mode === "never" ? "none" : headerOf(settings.proxy, this.flow.remote);
    if (header === "read") {
      this.#stage = "header";
      this.#readHeader();
    } else if (header === "refuse") this.end("proxy-header", "the sender is not in proxy-from");
    else this.#connect();
  }

  #cannotBegin(errno: number): void {
    if (!SHORTAGES.has(errno)) {
      this.end("unusable", errnoName(errno));
      return;
    }
    this.#around.shortage(errno);
    this.#later = this.#around.reactor.after(SHORTAGE_RETRY_MS, () => {
      this.#stageSince = performance.now();
      this.begin();
    });
  }

  /** To be called now and then: looks at what time has to say. */
  tick(now: number): void {
    const { timeouts, proxy } = this.#around.settings;
    const inStage = now - this.#stageSince;
    if (timeouts.total > 0 && now - this.since >= timeouts.total) this.end("total-timeout");
    else if (this.#stage === "header" && inStage >= proxy.waitMs) {
      // Whoever may leave the header out may also be one who waits for the other side to speak first.
      if (proxy.mode === "optional" && !(this.#clientEvents & EVENT.in)) this.#connect();
      else this.end("proxy-timeout");
    } else if (this.#stage === "connecting" && !this.#approach) {
      if (timeouts.connect > 0 && inStage >= timeouts.connect) this.#missed(ERRNO.ETIMEDOUT);
    } else if (this.#stage === "relaying") this.#tickRelaying(now);
  }

  tell(news: number): void {
    if (news & NEWS.reached) this.#reached();
    else if (news & NEWS.failed) this.#missed(this.#around.relays.errno(this.#slot));
    if (news & NEWS.over) this.#finish();
    else if (news & NEWS.client) this.#clientReady();
  }

  end(ending: Ending, detail = ""): void {
    if (this.#stage === "over") return;
    this.#stage = "over";
    this.#approach?.cancel();
    this.#later?.cancel();
    const { relays, inlet } = this.#around;
    const slot = this.#slot;
    if (slot >= 0) {
      this.up = relays.up(slot);
      this.down = relays.down(slot);
      // Whoever handed the client over may still hold it.
      relays.close(slot, CUT_OFF.has(ending), !inlet.accepts);
      this.#slot = -1;
    } else {
      native.sb_close(this.#record[FLOW_FD_WORD]! | 0);
    }
    this.#around.ended(this, ending, detail);
  }

  get #clientEvents(): number {
    return this.#around.relays.clientEvents(this.#slot);
  }

  #clientReady(): void {
    if (this.#stage !== "header" && this.#stage !== "connecting") return;
    if (this.#clientEvents & EVENT.error) this.end("client-reset", "before the target was reached");
    else if (this.#stage === "header") this.#readHeader();
  }

  #readHeader(): void {
    const decoded = takeProxyHeader(this.#around.relays.client(this.#slot));
    switch (decoded.kind) {
      case "header":
        this.#believe(decoded.header);
        return;
      case "none":
        if (this.#around.settings.proxy.mode === "optional") this.#connect();
        else this.end("proxy-header", "there is none");
        return;
      case "bad":
        this.end("proxy-header", decoded.what);
        return;
      case "gone":
        this.end("proxy-header", "the connection ended before it");
        return;
      case "partial":
        if (this.#clientEvents & EVENT.readHangup) this.end("proxy-header", "the connection ended within it");
    }
  }

  #believe(header: ProxyHeader): void {
    const { ends, uniqueId, netns } = header;
    if (ends) this.#flow = { ...ends, listener: 0 };
    this.#extras = { ...(uniqueId && { uniqueId }), ...(netns !== undefined && { netns }) };
    this.#connect();
  }

  /** The first attempt is made without ceremony: nearly always it is the only one. */
  #connect(): void {
    const around = this.#around;
    this.#stage = "connecting";
    this.#stageSince = this.since === this.#stageSince ? this.since : performance.now();
    if (!around.admit(this)) {
      this.end("limit", "per-source");
      return;
    }
    this.admitted = true;
    this.#order = around.order(this);
    const [index] = this.#order;
    const upstream = this.#upstream(index!);
    if (!upstream) {
      this.end("no-target", "the local address is not below the NAT64 prefix");
      return;
    }
    if (upstream.kind === "name" || !this.#attempt(index!, upstream)) this.#approachFrom(0, [], 0);
  }

  #attempt(index: number, hop: Hop): boolean {
    const target = beginConnect(hop, this.#connectFrom());
    if (typeof target === "number") return false;
    if (!this.#join(target, hop)) return false;
    this.#index = index;
    return true;
  }

  #join(target: Fd, hop: Hop): boolean {
    const { relays, settings } = this.#around;
    const isUnix = hop.kind === "unix";
    if (relays.join(this.#slot, target.number, isUnix, settings.sendProxy !== undefined) < 0) {
      target.close();
      return false;
    }
    target.take();
    this.#hop = hop;
    return true;
  }

  /** The first attempt has failed. */
  #missed(errno: number): void {
    this.#around.relays.leave(this.#slot);
    const cause = `${formatUpstream(this.#hop!)} ${errnoName(errno)}`;
    this.#around.missed(this.#index, cause);
    this.#approachFrom(1, [cause], errno);
  }

  /** `causes`: why those before the `first` were not reached. */
  #approachFrom(first: number, causes: readonly string[], errno: number): void {
    const around = this.#around;
    const candidates = this.#order.slice(first).map((index) => ({ index, upstream: this.#upstream(index)! }));
    this.#approach = new Approach(around, this.#connectFrom(), candidates, causes, errno, {
      reached: (index, hop, fd) => {
        this.#index = index;
        if (this.#join(fd, hop)) return;
        this.end("connect-failed", `${formatUpstream(hop)}: epoll`);
      },
      failed: (causes, timedOut) => this.end(timedOut ? "connect-timeout" : "connect-failed", causes),
    });
    this.#approach.begin();
  }

  /** Either all of them have one or none: it depends on the local address. */
  #upstream(index: number): Upstream | undefined {
    const { nat64, to } = this.#around.settings;
    const upstream = to[index]!;
    const depends = nat64 !== undefined || (upstream.kind !== "unix" && upstream.port === 0);
    return depends ? upstreamOf(upstream, this.flow, nat64) : upstream;
  }

  #connectFrom(): ConnectFrom {
    const { settings, sockets } = this.#around;
    const transparent = settings.source === "client";
    const source = transparent
      ? this.flow.remote
      : (settings.source as Exclude<typeof settings.source, "client">);
    return { source, transparent, sockets };
  }

  #reached(): void {
    this.#stage = "relaying";
    this.#lastMoved = performance.now();
    this.targetIndex = this.#index;
    this.#around.reached(this.#index);
    if (this.#around.settings.sendProxy === undefined) return;
    const sent = this.#sendHeader();
    this.#around.relays.move(this.#slot, sent < 0 ? -sent : 0);
  }

  /**
   * The first bytes on a fresh connection: there is always room for them. Or a negative errno: a target that takes
   * nothing may have answered all the same.
   */
  #sendHeader(): number {
    const { settings, relays } = this.#around;
    const { flow } = this;
    const known = flow.localPort !== 0 || flow.remotePort !== 0;
    const netns = this.#extras?.netns ?? settings.clientNetns;
    const header = encodeProxy(settings.sendProxy!, known ? flow : undefined, {
      uniqueId: this.#extras?.uniqueId ?? this.#around.uniqueId(),
      ...(netns !== undefined && { netns }),
    });
    const count = native.sb_write(relays.target(this.#slot), header, header.length);
    return count < 0 || count === header.length ? count : -ERRNO.EIO;
  }

  #finish(): void {
    const { relays } = this.#around;
    const slot = this.#slot;
    if (slot < 0) return;
    if (!relays.broken(slot)) {
      this.end("closed");
      return;
    }
    const ending = relays.culprit(slot) === "client" ? "client-reset" : "target-reset";
    this.end(ending, errnoName(relays.errno(slot)));
  }

  #tickRelaying(now: number): void {
    const { relays, settings } = this.#around;
    const { idle, halfClosed } = settings.timeouts;
    const moved = relays.up(this.#slot) + relays.down(this.#slot);
    if (moved !== this.#moved) {
      this.#moved = moved;
      this.#lastMoved = now;
      return;
    }
    const still = now - this.#lastMoved;
    if (idle > 0 && still >= idle) this.end("idle-timeout");
    else if (halfClosed > 0 && still >= halfClosed && relays.halfClosed(this.#slot))
      this.end("half-closed-timeout");
  }
}
