/** What the tests of faults share: receivers in C, a server in front of them, and what it says that it did. */
import { readFileSync, writeFileSync } from "node:fs";
import { freePort, Running, ready, scratch } from "../kit/running.ts";
import { tool } from "../kit/tools.ts";

/** What lies in a receiver's queue at most, and dies with it (unix(7): one more than the limit gets in). */
export const RECEIVER_QUEUE = Number(readFileSync("/proc/sys/net/unix/max_dgram_qlen", "utf8")) + 1;

/** Starts receiver.c with these options, and waits until it is bound. */
export async function receiver(...options: readonly string[]): Promise<Running> {
  const running = new Running([tool("test/kit/receiver.c"), ...options]);
  await running.until(/ready/);
  return running;
}

export interface Server {
  readonly running: Running;
  readonly port: number;
}

/** A server that sends everything to `path`, for which connections may wait as long as it takes to start a program. */
export async function serverTo(path: string): Promise<Server> {
  using folder = scratch();
  const port = await freePort();
  const file = folder.file("c.toml");
  writeFileSync(
    file,
    `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n[[route]]\nto = "target:r"\n` +
      `[target.r]\nto = "unix:${path}"\nwait = "2m"\n`,
  );
  return { running: await ready("socketbox", ["-f", file]), port };
}

/** Stops a server, and returns the counts of its last line by their names: accepted, delivered, timeout … */
export async function totals(server: Running): Promise<Readonly<Record<string, number>>> {
  await server.stop();
  const counts = /stopped: (.*)/.exec(server.log)?.[1]?.split(", ") ?? [];
  return Object.fromEntries(
    counts.map((text) => {
      const [number, name] = text.split(" ");
      return [name!, Number(number)];
    }),
  );
}

/** The outcome of clients who were all served. */
export function allServed(count: number) {
  return { served: count, closed: 0, reset: 0, refused: 0, stuck: 0 };
}
