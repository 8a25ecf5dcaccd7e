/** One relayed connection, from its arrival to its end. */
import type { RelaySettings } from "../../config/relay.ts";
import type { ConnectFrom } from "../../io/connect.ts";
import { Fd } from "../../io/fd.ts";
import type { Names } from "../../io/names.ts";
import { takeProxyHeader } from "../../io/proxy-header.ts";
import { EVENT, type Reactor, type Watch } from "../../io/reactor.ts";
import { type Pipes, RELAY_EVENTS, RESULT, Splice } from "../../io/splice.ts";
import type { Flow } from "../../model/flow.ts";
import { headerOf } from "../../model/proxy.ts";
import { formatUpstream, upstreamOf } from "../../model/upstream.ts";
import { errnoName } from "../../native/errno.ts";
import { native } from "../../native/library.ts";
import { encodeProxy, type ProxyExtras, type ProxyHeader } from "../../wire/proxy.ts";
import { Approach, type Candidate, type Reached } from "./approach.ts";
import type { Inlet } from "./inlet.ts";
import { CUT_OFF, type Ending } from "./reasons.ts";

/** What a connection finds around it. */
export interface Surroundings {
  readonly settings: RelaySettings;
  readonly inlet: Inlet;
  readonly reactor: Reactor;
  readonly names: Names;
  readonly pipes: Pipes;
  /** Sockets of the namespace that targets are in. */
  readonly sockets: Fd | undefined;
  /** A name for the connection in PROXY headers. */
  uniqueId(): Uint8Array;
  /** Its true addresses are known. Returns whether there may be one more from there. */
  admit(connection: Connection): boolean;
  candidates(connection: Connection): Candidate[];
  reached(index: number): void;
  missed(index: number, cause: string): void;
  shortage(errno: number): void;
  /** It has more to move than one turn may; call `resume` in the next. */
  again(connection: Connection): void;
  ended(connection: Connection, ending: Ending, detail: string): void;
}

export class Connection {
  readonly #around: Surroundings;
  readonly #client: Fd;
  readonly #watch: Watch;
  /** Events of the client that nobody could use yet. */
  #clientEvents = 0;
  /** When it came, and when its present stage began; performance.now(). */
  readonly since: number;
  #stageSince: number;
  #stage: "header" | "connecting" | "relaying" | "over" = "header";
  /** True addresses: a PROXY header's, where one was received. */
  flow: Flow;
  /** Under which it is counted, once admitted. */
  source: string | undefined;
  #extras: ProxyExtras = {};
  #approach: Approach | undefined;
  #target: Reached | undefined;
  #splice: Splice | undefined;
  #trace = 0;
  #lastMoved = 0;

  /** Takes ownership of `fd`. */
  constructor(around: Surroundings, fd: number, flow: Flow, now: number) {
    this.#around = around;
    this.#client = new Fd(fd);
    this.flow = flow;
    this.since = now;
    this.#stageSince = now;
    this.#watch = around.reactor.watch(fd, RELAY_EVENTS, (events) => this.#clientReady(events));
  }

  get target(): string | undefined {
    return this.#target && formatUpstream(this.#target.hop);
  }

  get targetIndex(): number | undefined {
    return this.#target?.index;
  }

  /** Bytes to the target. */
  get up(): number {
    return this.#splice?.up ?? 0;
  }

  /** Bytes to the client. */
  get down(): number {
    return this.#splice?.down ?? 0;
  }

  begin(): void {
    const status = native.sb_prepare_relayed(this.#client.number);
    if (status < 0) {
      this.end("client-reset", errnoName(-status));
      return;
    }
    const header = headerOf(this.#around.settings.proxy, this.flow.remote);
    if (header === "read") this.#readHeader(0);
    else if (header === "refuse") this.end("proxy-header", "the sender is not in proxy-from");
    else this.#connect();
  }

  /** Goes on where {@link Surroundings.again} stopped it. */
  resume(): void {
    if (this.#stage === "relaying") this.#move(EVENT.in | EVENT.out, EVENT.in | EVENT.out);
  }

  /** To be called now and then: looks at what time has to say. */
  tick(now: number): void {
    const { timeouts, proxy } = this.#around.settings;
    if (timeouts.total > 0 && now - this.since >= timeouts.total) this.end("total-timeout");
    else if (this.#stage === "header" && now - this.#stageSince >= proxy.waitMs) {
      // Whoever may leave the header out may also be one who waits for the other side to speak first.
      if (proxy.mode === "optional" && !(this.#clientEvents & EVENT.in)) this.#connect();
      else this.end("proxy-timeout");
    } else if (this.#stage === "relaying") this.#tickRelaying(now, this.#splice!);
  }

  end(ending: Ending, detail = ""): void {
    if (this.#stage === "over") return;
    this.#stage = "over";
    this.#approach?.cancel();
    // Whoever handed the client over may still hold it.
    if (this.#around.inlet.accepts) this.#watch.forget();
    else this.#watch.cancel();
    this.#target?.watch.forget();
    const reset = CUT_OFF.has(ending);
    if (this.#splice) this.#splice.close(reset);
    else if (reset) native.sb_reset(this.#client.take());
    else this.#client.close();
    this.#around.ended(this, ending, detail);
  }

  #clientReady(events: number): void {
    if (this.#stage === "relaying") {
      this.#move(events, 0);
      return;
    }
    this.#clientEvents |= events;
    if (events & (EVENT.error | EVENT.hangup)) this.end("client-reset", "before the target was reached");
    else if (this.#stage === "header") this.#readHeader(events);
  }

  #readHeader(events: number): void {
    const decoded = takeProxyHeader(this.#client.number);
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
        if (events & EVENT.readHangup) this.end("proxy-header", "the connection ended within it");
    }
  }

  #believe(header: ProxyHeader): void {
    const { ends, uniqueId, netns } = header;
    if (ends) this.flow = { ...ends, listener: 0 };
    this.#extras = { ...(uniqueId && { uniqueId }), ...(netns !== undefined && { netns }) };
    this.#connect();
  }

  #connect(): void {
    const around = this.#around;
    this.#stage = "connecting";
    if (!around.admit(this)) {
      this.end("limit", "per-source");
      return;
    }
    const candidates = around.candidates(this).flatMap(({ index, upstream }) => {
      const here = upstreamOf(upstream, this.flow, around.settings.nat64);
      return here ? [{ index, upstream: here }] : [];
    });
    if (candidates.length === 0) {
      this.end("no-target", "the local address is not below the NAT64 prefix");
      return;
    }
    const { reactor, names, settings } = around;
    this.#approach = new Approach(
      reactor,
      names,
      this.#connectFrom(),
      candidates,
      settings.timeouts.connect,
      {
        reached: (reached) => this.#reached(reached),
        failed: (causes, timedOut) => this.end(timedOut ? "connect-timeout" : "connect-failed", causes),
        missed: (index, cause) => around.missed(index, cause),
        shortage: (errno) => around.shortage(errno),
      },
    );
    this.#approach.begin();
  }

  #connectFrom(): ConnectFrom {
    const { settings, sockets } = this.#around;
    const transparent = settings.source === "client";
    const source = settings.source === "client" ? this.flow.remote : settings.source;
    return { source, transparent, sockets };
  }

  #reached(reached: Reached): void {
    this.#stage = "relaying";
    this.#target = reached;
    this.#around.reached(reached.index);
    if (!this.#sendHeader(reached)) return;
    this.#splice = new Splice(this.#client, reached.fd, this.#around.pipes);
    this.#lastMoved = this.#stageSince = performance.now();
    reached.listen((events) => this.#move(0, events));
    // What either has sent by now waits for us; its event may be long gone, or still to come.
    const first = EVENT.in | EVENT.urgent;
    this.#move(this.#clientEvents | first, reached.events | first);
  }

  /** The first bytes on a fresh connection: there is always room for them. */
  #sendHeader({ fd }: Reached): boolean {
    const version = this.#around.settings.sendProxy;
    if (version === undefined) return true;
    const { flow } = this;
    const known = flow.localPort !== 0 || flow.remotePort !== 0;
    const netns = this.#extras.netns ?? this.#around.settings.clientNetns;
    const header = encodeProxy(version, known ? flow : undefined, {
      uniqueId: this.#extras.uniqueId ?? this.#around.uniqueId(),
      ...(netns !== undefined && { netns }),
    });
    const count = native.sb_write(fd.number, header, header.length);
    if (count === header.length) return true;
    this.#splice = new Splice(this.#client, fd, this.#around.pipes);
    this.end("target-reset", count < 0 ? errnoName(-count) : "it did not take the PROXY header");
    return false;
  }

  #move(clientEvents: number, targetEvents: number): void {
    const splice = this.#splice!;
    const result = splice.move(clientEvents, targetEvents);
    if (result & RESULT.over) this.#finish(splice);
    else if (result & RESULT.more) this.#around.again(this);
  }

  #finish(splice: Splice): void {
    if (!splice.broken) {
      this.end("closed");
      return;
    }
    const { errno, side } = splice.failure;
    this.end(side === "client" ? "client-reset" : "target-reset", errnoName(errno));
  }

  #tickRelaying(now: number, splice: Splice): void {
    const { idle, halfClosed } = this.#around.settings.timeouts;
    if (splice.trace !== this.#trace) {
      this.#trace = splice.trace;
      this.#lastMoved = now;
      return;
    }
    const still = now - this.#lastMoved;
    if (idle > 0 && still >= idle) this.end("idle-timeout");
    else if (halfClosed > 0 && still >= halfClosed && splice.halfClosed) this.end("half-closed-timeout");
  }
}
