/** TCP ports for tests. */
import { readFileSync } from "node:fs";
import { listenTcp } from "./sockets.ts";

/**
 * Ports lie below those that the kernel gives to clients: one of these that connects to its own number would find
 * itself (simultaneous open).
 */
const FIRST = 10_000;
const CLIENTS = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/)[0]);
const END = CLIENTS > FIRST + 5_000 ? CLIENTS : 32_768;
const RANGE = 500;

/** What this process has of them, and nobody else: it listens on the first one for as long as it lives. */
let first: number | undefined;
let dealt = 0;

/** Before anybody counts descriptors: one is needed for it. */
export function claimPorts(): void {
  for (let from = FIRST; from + RANGE <= END && first === undefined; from += RANGE)
    if (listens(from)) first = from;
  if (first === undefined) throw new Error("other tests have all ports");
}

/** One that nobody has on any address, nor a connection that was closed; never the one that was given last. */
export async function freePort(): Promise<number> {
  if (first === undefined) claimPorts();
  for (;;) {
    const port = first! + 1 + (dealt++ % (RANGE - 1));
    const listener = listens(port);
    listener?.close();
    if (listener) return port;
  }
}

function listens(port: number) {
  try {
    return listenTcp(port);
  } catch {
    return undefined;
  }
}
