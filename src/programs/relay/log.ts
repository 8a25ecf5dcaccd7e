/** The lines that a relay writes for each connection: in the original's form, or as JSON. */
import { formatPlain } from "../../model/address.ts";
import { type Flow, formatFlow } from "../../model/flow.ts";
import type { Ending } from "./reasons.ts";

export const LOG_FORMS = ["text", "json", "none"] as const;
export type LogForm = (typeof LOG_FORMS)[number];

export interface Ended {
  readonly relay: string;
  readonly flow: Flow;
  readonly target: string | undefined;
  readonly ending: Ending;
  readonly detail: string;
  readonly up: number;
  readonly down: number;
  readonly ms: number;
}

export class RelayLog {
  readonly #form: LogForm;
  readonly #write: (text: string) => void;
  #lines = "";

  /** `write` gets whole lines, as many as there are. */
  constructor(form: LogForm, write: (text: string) => void) {
    this.#form = form;
    this.#write = write;
  }

  /** Nothing is written, so that nothing need be put into words. */
  get none(): boolean {
    return this.#form === "none";
  }

  started(relay: string, flow: Flow): void {
    if (this.#form === "text") this.#lines += `${seconds()} ${formatFlow(flow)}\n`;
    else if (this.#form === "json") this.#json("start", relay, flow, {});
  }

  ended({ relay, flow, target, ending, detail, up, down, ms }: Ended): void {
    const took = (ms / 1000).toFixed(3);
    if (this.#form === "text") {
      const why = detail ? `${ending} (${detail})` : ending;
      const where = target === undefined ? "no target" : `to ${target}`;
      const end = `end: ${why}; ${where}; ${up} bytes up, ${down} down; ${took} s`;
      this.#lines += `${seconds()} ${formatFlow(flow)} ${end}\n`;
    } else if (this.#form === "json") {
      this.#json("end", relay, flow, {
        target,
        ending,
        detail: detail || undefined,
        up,
        down,
        seconds: Number(took),
      });
    }
  }

  /** To be called when there is nothing more to do at once: one write for all lines. */
  flush(): void {
    if (this.#lines === "") return;
    this.#write(this.#lines);
    this.#lines = "";
  }

  #json(event: string, relay: string, flow: Flow, more: object): void {
    const line = {
      time: Date.now() / 1000,
      event,
      relay,
      remote: formatPlain(flow.remote),
      remotePort: flow.remotePort,
      local: formatPlain(flow.local),
      localPort: flow.localPort,
      ...more,
    };
    this.#lines += `${JSON.stringify(line)}\n`;
  }
}

/** Unix time, as the original writes it. */
function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
