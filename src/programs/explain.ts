/** `socketbox explain`: where a connection would go, and which routes decide it. */
import type { Address } from "../model/address.ts";
import { formatPlace } from "../model/diagnostic.ts";
import { type Flow, formatFlow } from "../model/flow.ts";
import { fillTarget, formatReceiver, isPool, type Target } from "../model/target.ts";
import { rankedFor } from "../routing/choose.ts";
import { explain as explainFlow } from "../routing/match.ts";
import { DENIED } from "../routing/table.ts";
import { mustConfigure, readText } from "./configure.ts";
import { EXIT, Failure, type Host } from "./host.ts";

interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

export interface Question {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** Name of the listener; the first one unless given. */
  readonly listener: string | undefined;
}

export function explain(host: Host, file: string, question: Question): number {
  const { configuration, table } = mustConfigure(file, readText(file));
  const { draft, listeners } = configuration;
  const listener =
    question.listener === undefined ? 0 : listeners.findIndex(({ name }) => name === question.listener);
  if (listener < 0)
    throw new Failure(EXIT.usage, `there is no listener ${JSON.stringify(question.listener)} in ${file}`);
  const { local, remote } = question;
  const flow = {
    local: local.address,
    localPort: local.port,
    remote: remote.address,
    remotePort: remote.port,
    listener,
  };
  const { steps, verdict } = explainFlow(table, draft, flow);
  host.out(`${formatFlow(flow)}, by listener ${listeners[listener]!.name}\n`);
  for (const { table: name, route } of steps) {
    host.out(`  table ${name}: ${route ? `the route at ${formatPlace(route.place)}` : "no route fits"}\n`);
  }
  if (verdict < 0) {
    host.out(verdict === DENIED ? "denied\n" : "no route: the connection is closed\n");
    return EXIT.refused;
  }
  const target = table.targets[verdict]!;
  host.out(`to ${target.name}${describe(target, flow)}\n`);
  return EXIT.ok;
}

/** The receivers, where the target's name does not say it already. */
function describe(target: Target, flow: Flow): string {
  const { name, balance, fallback, spread } = target;
  const receivers = fillTarget(target, flow).map(formatReceiver);
  if (!isPool(target)) return receivers[0] === name ? "" : ` (${receivers[0]})`;
  const ordered = balance === "source-hash" ? rankedFor(flow, receivers) : receivers;
  const how = [balance, ...(fallback ? ["fallback"] : []), ...(spread ? ["spread over siblings"] : [])];
  return ` (${ordered.join(balance === "source-hash" ? ", then " : ", ")}; ${how.join(", ")})`;
}
