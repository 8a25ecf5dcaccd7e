/** What outlives a reload: how many connections from one inlet there are, from where, and to which targets. */
import type { RelaySettings } from "../../config/relay.ts";
import type { Address } from "../../model/address.ts";
import { formatUpstream } from "../../model/upstream.ts";
import { SourceCounts } from "../limits.ts";
import { newTarget, type TargetState } from "./balance.ts";

/** What is counted of a connection. */
export interface Counted {
  /** Its true addresses are known, and it may go on. */
  readonly admitted: boolean;
  readonly flow: { readonly remote: Address };
  /** Under which it is counted, once admitted. */
  source: string | undefined;
}

export class Tally {
  readonly #running = new Set<Counted>();
  #sources: SourceCounts | undefined;
  #targets: readonly { readonly key: string; readonly state: TargetState }[] = [];

  /** Counts by these settings from now on, whatever those that run began under. */
  adopt({ perSource, to }: Pick<RelaySettings, "perSource" | "to">): void {
    const known = new Map(this.#targets.map(({ key, state }) => [key, state]));
    this.#targets = to.map((upstream) => {
      const key = formatUpstream(upstream);
      return { key, state: known.get(key) ?? newTarget(key) };
    });
    this.#sources = perSource && new SourceCounts(perSource);
    for (const connection of this.#running)
      connection.source = connection.admitted ? this.#sources?.add(connection.flow.remote) : undefined;
  }

  /** Of the settings' targets. */
  get targets(): readonly TargetState[] {
    return this.#targets.map(({ state }) => state);
  }

  get size(): number {
    return this.#running.size;
  }

  add(connection: Counted): void {
    this.#running.add(connection);
  }

  /** Returns whether there may be one more from where it comes. */
  admit(connection: Counted): boolean {
    if (!this.#sources) return true;
    connection.source = this.#sources.admit(connection.flow.remote);
    return connection.source !== undefined;
  }

  delete(connection: Counted): void {
    this.#running.delete(connection);
    if (connection.source !== undefined) this.#sources?.release(connection.source);
  }
}
