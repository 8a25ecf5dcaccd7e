/** Accepted connections whose PROXY header is still to come: they wait here, and hold nobody up. */
import { headerOf, type ProxyReceiving } from "../model/proxy.ts";
import type { Reason } from "../model/reason.ts";
import { SysError } from "../native/errno.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS, flowOf, setEnds } from "../routing/record.ts";
import type { ProxyEnds } from "../wire/proxy.ts";
import { now } from "./clock.ts";
import type { Taken } from "./deliver.ts";
import { takeProxyHeader } from "./proxy-header.ts";
import { EVENT, type Reactor, type Timer, type Watch } from "./reactor.ts";

/** What comes of a connection that had to wait. Its flow is a record of its own. */
export interface HeaderEvents {
  /** The number of waiting connections has changed by this many. */
  waiting(change: number): void;
  /** A header names these ends for the connection of this descriptor; its record has them already. */
  told(fd: number, ends: ProxyEnds): void;
  arrived(flow: Uint32Array, listener: number): void;
  refused(reason: Reason, flow: Uint32Array, listener: number): void;
}

interface Waiting {
  readonly flow: Uint32Array;
  readonly listener: number;
  readonly since: number;
  readonly watch: Watch;
  readonly deadline: Timer;
}

export class Headers {
  readonly #reactor: Reactor;
  readonly #events: HeaderEvents;
  readonly #waiting = new Set<Waiting>();

  constructor(reactor: Reactor, events: HeaderEvents) {
    this.#reactor = reactor;
    this.#events = events;
  }

  /**
   * Whether the connection of the record at word `at` can be routed now. If not, it is ours from here on. `since`: it
   * has waited before.
   */
  isReady(flows: Uint32Array, at: number, listener: number, proxy: ProxyReceiving, since = now()): boolean {
    const header = headerOf(proxy, flowOf(flows, at, listener).remote);
    const state =
      header === "read" ? this.#look(flows, at, proxy, 0) : header === "refuse" ? "proxy-header" : "ready";
    if (state === "ready") return true;
    const flow = flows.slice(at, at + FLOW_WORDS);
    if (state === "waiting") this.#wait(flow, listener, proxy, since);
    else this.#events.refused(state, flow, listener);
    return false;
  }

  /** What waits, with its real ends, for somebody else to look after. */
  takeWaiting(): Taken[] {
    return [...this.#waiting].map((waiting) => {
      this.#forget(waiting);
      const { flow, listener, since } = waiting;
      return { flow, listener, since, headerless: true };
    });
  }

  /** Gives up whatever still waits. */
  close(): void {
    for (const waiting of this.#waiting) this.#end(waiting, "shutdown");
  }

  #look(
    flows: Uint32Array,
    at: number,
    { mode }: ProxyReceiving,
    events: number,
  ): Reason | "ready" | "waiting" {
    const fd = flows[at + FLOW_FD_WORD]!;
    const taken = takeProxyHeader(fd);
    switch (taken.kind) {
      case "header":
        if (taken.header.ends) {
          setEnds(flows, at, taken.header.ends);
          this.#events.told(fd, taken.header.ends);
        }
        return "ready";
      case "none":
        return mode === "optional" ? "ready" : "proxy-header";
      case "partial":
        return events & (EVENT.readHangup | EVENT.error) ? "proxy-header" : "waiting";
      default:
        return "proxy-header";
    }
  }

  #wait(flow: Uint32Array, listener: number, proxy: ProxyReceiving, since: number): void {
    const fd = flow[FLOW_FD_WORD]!;
    let spoke = false;
    let watch: Watch;
    try {
      // Edge-triggered: half a header stays where it is, and would be told again and again.
      watch = this.#reactor.watch(fd, EVENT.in + EVENT.readHangup + EVENT.edge, (events) => {
        spoke = true;
        this.#settle(waiting, this.#look(flow, 0, proxy, events));
      });
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#events.refused("limit", flow, listener); // epoll has no room for it
      return;
    }
    const deadline = this.#reactor.after(Math.max(0, since + proxy.waitMs - now()), () => {
      // Whoever may leave the header out may also be one who waits for the other side to speak first.
      this.#settle(waiting, proxy.mode === "optional" && !spoke ? "ready" : "proxy-timeout");
    });
    const waiting: Waiting = { flow, listener, since, watch, deadline };
    this.#waiting.add(waiting);
    this.#events.waiting(1);
  }

  #settle(waiting: Waiting, state: Reason | "ready" | "waiting"): void {
    if (state === "waiting") return;
    if (state !== "ready") {
      this.#end(waiting, state);
      return;
    }
    this.#forget(waiting);
    this.#events.arrived(waiting.flow, waiting.listener);
  }

  #end(waiting: Waiting, reason: Reason): void {
    this.#forget(waiting);
    this.#events.refused(reason, waiting.flow, waiting.listener);
  }

  #forget(waiting: Waiting): void {
    waiting.watch.cancel();
    waiting.deadline.cancel();
    this.#waiting.delete(waiting);
    this.#events.waiting(-1);
  }
}
