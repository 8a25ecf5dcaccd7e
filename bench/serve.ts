/**
 * What accepting and handing off costs: the server's CPU time for each connection, beside the floor (floor.c), in
 * interleaved runs with the same receiver and the same clients; and, to tell how much of that is scheduling, beside
 * the floor under SCHED_BATCH. See README.md.
 *
 *     bench/serve.ts [ROUNDS [CLIENTS_AT_A_TIME]]
 */
import { writeFileSync } from "node:fs";
import { freePort, Running, ready, scratch } from "../test/kit/running.ts";
import { load, type Outcome, tool } from "../test/kit/tools.ts";
import { cpuMicroseconds, median, ownNetwork } from "./measure.ts";

const [rounds = "5", only] = process.argv.slice(2);
const ROUNDS = Number(rounds);
const ROUTES = 100_000;

const CASES = [
  { name: "one client at a time", atATime: 1, count: 60_000, most: 1.25 },
  { name: "32 clients at a time", atATime: 32, count: 60_000, most: 1.15 },
  { name: "256 clients at a time", atATime: 256, count: 60_000, most: 1.15 },
] as const;

interface Server {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
}

ownNetwork(import.meta.path);
using folder = scratch();
await using started = new AsyncDisposableStack();
const receiver = async (name: string): Promise<string> => {
  const path = folder.file(name);
  const running = started.use(new Running([tool("test/kit/receiver.c"), path]));
  await running.until(/ready/);
  return path;
};

const floor = async (name: string, ...under: string[]): Promise<Server> => {
  const port = await freePort();
  const command = [...under, tool("bench/floor.c"), String(port), await receiver(name)];
  const running = started.use(new Running(command));
  await running.until(/ready/);
  return { name, port, pid: running.pid };
};

const plain = await floor("floor");
const patient = await floor("patient", "chrt", "--batch", "0");
const ourPort = await freePort();
const config = folder.file("routes.toml");
writeFileSync(config, routesTo(await receiver("ours.sock")));
await using ours = await ready("socketbox", ["-f", config, "-p", String(ourPort)]);
const socketbox: Server = { name: "socketbox", port: ourPort, pid: ours.pid };
const servers = [plain, patient, socketbox];

console.log(`CPU time of the server for each connection, ${ROUTES} routes, median of ${ROUNDS} runs`);
for (const { name, atATime, count, most } of CASES) {
  if (only !== undefined && Number(only) !== atATime) continue;
  // Once without counting: the engine compiles what it sees running often.
  for (const { port } of servers) await clients(port, count, atATime);
  const times = new Map(servers.map((server) => [server, [] as number[]]));
  let lost = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const server of servers) {
      const before = cpuMicroseconds(server.pid);
      const outcome = await clients(server.port, count, atATime);
      times.get(server)!.push((cpuMicroseconds(server.pid) - before) / count);
      lost += count - outcome.served;
    }
  }
  const [least, batch, own] = servers.map((server) => median(times.get(server)!));
  const ratio = own! / least!;
  const verdict = ratio <= most && lost === 0 ? "holds" : "DOES NOT HOLD";
  console.log(
    `${name.padEnd(24)} floor ${least!.toFixed(1)} us, socketbox ${own!.toFixed(1)} us: ` +
      `x ${ratio.toFixed(2)} (at most ${most}), ${lost} lost: ${verdict}; ` +
      `floor under SCHED_BATCH ${batch!.toFixed(1)} us: x ${(own! / batch!).toFixed(2)}`,
  );
}

function clients(port: number, count: number, atATime: number): Promise<Outcome> {
  return load({ port, count, atATime, options: ["-d", String(ROUTES)] });
}

/** One route for each of the addresses that load.c connects to, and none else. */
function routesTo(path: string): string {
  const routes = Array.from({ length: ROUTES }, (_, number) => {
    const address = `127.${16 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
    return `[[route]]\nlocal = "${address}"\nto = "unix:${path}"\n`;
  });
  return routes.join("");
}
