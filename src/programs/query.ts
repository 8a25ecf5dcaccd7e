/** `socket-query`: both ends of a connection, as the original prints them. */
import { isInetSocket, mustBe } from "../io/socket.ts";
import { type Address, groupsOf } from "../model/address.ts";
import { check } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { FLOW_WORDS, flowOf } from "../routing/record.ts";
import { EXIT, type Host } from "./host.ts";

export interface QueryOptions {
  readonly fd: number;
  /** One side alone, or both. */
  readonly side: "local" | "remote" | undefined;
  readonly part: "address" | "port" | undefined;
  readonly raw: boolean;
}

export function query(host: Host, { fd, side, part, raw }: QueryOptions): number {
  mustBe(isInetSocket, fd, `descriptor ${fd}`);
  const words = new Uint32Array(FLOW_WORDS);
  check(native.sb_flow_of(fd, words), `descriptor ${fd}`);
  const flow = flowOf(words, 0, 0);
  const local = () => format(flow.local, flow.localPort, part, raw);
  const remote = () => format(flow.remote, flow.remotePort, part, raw);
  host.out(`${side === "local" ? local() : side === "remote" ? remote() : `${local()} ${remote()}`}\n`);
  return EXIT.ok;
}

function format(address: Address, port: number, part: QueryOptions["part"], raw: boolean): string {
  const groups = groupsOf(address).map((group) => group.toString(16).padStart(4, "0"));
  const shownAddress = raw ? groups.join("").toUpperCase() : `[${groups.join(":")}]`;
  const shownPort = raw ? port.toString(16).toUpperCase().padStart(4, "0") : String(port);
  if (part === "address") return raw ? shownAddress : groups.join(":");
  return part === "port" ? shownPort : `${shownAddress}:${shownPort}`;
}
