/** What outlives a reload: how many connections from one inlet there are and were, from where, and to which targets. */
import type { RelaySettings } from "../../config/relay.ts";
import type { Address } from "../../model/address.ts";
import { formatUpstream } from "../../model/upstream.ts";
import { SourceCounts } from "../limits.ts";
import { newTarget, type TargetState } from "./balance.ts";
import { ENDINGS, type Ending } from "./reasons.ts";

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
  readonly #endings = new Map<Ending, number>();
  #taken = 0;
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

  /** `12 taken, 1 running, 10 closed, 1 connect-failed` */
  get totals(): string {
    const endings = ENDINGS.flatMap((ending) => {
      const count = this.#endings.get(ending);
      return count ? [`${count} ${ending}`] : [];
    });
    return [`${this.#taken} taken`, `${this.size} running`, ...endings].join(", ");
  }

  add(connection: Counted): void {
    this.#taken++;
    this.#running.add(connection);
  }

  /** Returns whether there may be one more from where it comes. */
  admit(connection: Counted): boolean {
    if (!this.#sources) return true;
    connection.source = this.#sources.admit(connection.flow.remote);
    return connection.source !== undefined;
  }

  ended(connection: Counted, ending: Ending): void {
    this.#endings.set(ending, (this.#endings.get(ending) ?? 0) + 1);
    this.#running.delete(connection);
    if (connection.source !== undefined) this.#sources?.release(connection.source);
  }
}
