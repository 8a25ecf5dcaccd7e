/** Targets by receiver: all routes to one receiver share one target, and with it one queue. */
import { formatReceiver, type Receiver, type Target, targetOf } from "../model/target.ts";

export class Targets {
  readonly #byReceiver = new Map<string, Target>();

  of(receiver: Receiver): Target {
    const key = formatReceiver(receiver);
    const target = this.#byReceiver.get(key) ?? targetOf(receiver);
    this.#byReceiver.set(key, target);
    return target;
  }
}
