/** The truth that compiled tables are compared with: straight over the draft, one route after the other. */
import { type AddressPattern, matches } from "../../src/model/address.ts";
import type { Flow } from "../../src/model/flow.ts";
import type { Draft, DraftRoute, PortRange } from "../../src/routing/draft.ts";
import type { Step } from "../../src/routing/match.ts";

export function interpret({ tables }: Draft, flow: Flow): Step[] {
  const steps: Step[] = [];
  for (let table = tables[0]; table; ) {
    const route = table.routes.find((candidate) => fits(candidate, flow));
    steps.push({ table: table.name, route });
    const action = route?.action;
    table = action?.kind === "table" ? tables.find(({ name }) => name === action.table) : undefined;
  }
  return steps;
}

function fits(route: DraftRoute, flow: Flow): boolean {
  const address = (value: Uint8Array) => (pattern: AddressPattern) => matches(pattern, value);
  const port = (value: number) => (range: PortRange) => range.first <= value && value <= range.last;
  return (
    oneOf(route.local, address(flow.local)) &&
    oneOf(route.remote, address(flow.remote)) &&
    oneOf(route.localPorts, port(flow.localPort)) &&
    oneOf(route.remotePorts, port(flow.remotePort)) &&
    oneOf(route.listeners, (listener) => listener === flow.listener)
  );
}

function oneOf<T>(alternatives: readonly T[], fits: (alternative: T) => boolean): boolean {
  return alternatives.length === 0 || alternatives.some(fits);
}
