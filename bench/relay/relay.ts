/**
 * Relays side by side: ours, a minimal C loop with splice(2) (loop.c), HAProxy with splicing, socat and
 * systemd-socket-proxyd, each with one thread, between the same client and server (load.c), on loopback.
 *
 *     bun bench/relay/relay.ts [ROUNDS [GIGABYTES]]
 *
 * Rounds take turns, so that whatever else the machine does meets all alike; medians are told, and ratios to the C
 * loop. CPU is that of the relay alone (user and system, its children included).
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LISTENER_DEFAULTS } from "../../src/config/configuration.ts";
import { bindListener, listen } from "../../src/io/listener.ts";
import { parseAddress } from "../../src/model/address.ts";
import { bin, freePort, must, Running } from "../../test/kit/running.ts";

const ROUNDS = Number(process.argv[2] ?? 5);
const BYTES = Number(process.argv[3] ?? 4) * 1e9;
const PINGS = 20_000;
const CONNECTIONS = 10_000;
const WIDTH = 32;
/** Beyond it JavaScript is compiled; the others need no warming, and get it all the same. */
const WARM = 10_000;
/** Each is two descriptors of a relay, of which many systems allow 20,000. */
const IDLE = 9_900;
/** Two pipes for each connection are four descriptors more. */
const IDLE_LOOP = 3_000;
const TICKS = 100;

interface Relay {
  readonly name: string;
  /** Idle connections that it is tried with. */
  readonly idle?: number;
  start(port: number, target: number): Promise<Running>;
}

interface Sample {
  readonly gigabytesPerSecond: number;
  readonly cpuPerGigabyte: number;
  readonly p50: number;
  readonly p99: number;
  readonly connectionsPerSecond: number;
  readonly cpuPerConnection: number;
}

const folder = mkdtempSync(join(tmpdir(), "sb-bench-"));
const load = join(folder, "load");
const loop = join(folder, "loop");

async function untilItListens(running: Running, port: number): Promise<Running> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const isThere = () =>
    ["tcp", "tcp6"].some((file) =>
      new RegExp(`:${hex} \\S+ 0A `).test(readFileSync(`/proc/net/${file}`, "utf8")),
    );
  const end = Date.now() + 10_000;
  while (!isThere()) {
    if (Date.now() > end) throw new Error(`it does not listen:\n${running.log}`);
    await Bun.sleep(5);
  }
  return running;
}

const RELAYS: Relay[] = [
  {
    name: "C loop",
    idle: IDLE_LOOP,
    start: async (port, target) => {
      const running = new Running([loop, String(port), String(target)]);
      await running.until(/ready/);
      return running;
    },
  },
  {
    name: "socketbox-relay",
    start: async (port, target) => {
      const settings = { ...LISTENER_DEFAULTS, address: parseAddress("127.0.0.1")!, port };
      using listener = bindListener(settings);
      listen(listener, 4096);
      const args = ["-l", "3", "-c", "127.0.0.1", "-p", String(target), "--log", "none"];
      const running = new Running([bin("socketbox-relay"), ...args], {
        stdio: [listener.number],
      });
      await running.until(/: ready: /);
      return running;
    },
  },
  {
    name: "HAProxy",
    start: async (port, target) => {
      const config = join(folder, "haproxy.cfg");
      writeFileSync(
        config,
        [
          "global",
          "  nbthread 1",
          `  maxconn ${IDLE + 10}`,
          "  maxpipes 32", // beside two descriptors for each connection there is no room for its default
          "defaults",
          "  mode tcp",
          "  option splice-request",
          "  option splice-response",
          "  timeout connect 10s",
          "  timeout client 10m",
          "  timeout server 10m",
          "listen l",
          `  bind 127.0.0.1:${port}`,
          `  server s 127.0.0.1:${target}`,
          "",
        ].join("\n"),
      );
      return untilItListens(new Running(["haproxy", "-db", "-f", config]), port);
    },
  },
  {
    name: "socat",
    start: (port, target) => {
      const from = `TCP4-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork,backlog=4096,nodelay`;
      return untilItListens(new Running(["socat", from, `TCP4:127.0.0.1:${target},nodelay`]), port);
    },
  },
  {
    name: "systemd-socket-proxyd",
    start: (port, target) => {
      const proxyd = [
        "/lib/systemd/systemd-socket-proxyd",
        `--connections-max=${IDLE + 100}`,
        `127.0.0.1:${target}`,
      ];
      return untilItListens(
        new Running(["systemd-socket-activate", "-l", `127.0.0.1:${port}`, ...proxyd]),
        port,
      );
    },
  },
];

/** Seconds of CPU that the process and its ended children have used. */
function cpu(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS;
}

/** MiB in memory; of a relay that forks, with all its children. */
function rss(pid: number): number {
  const own = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  return children.filter(Boolean).reduce((sum, child) => sum + rss(Number(child)), own);
}

async function numbers(...args: (string | number)[]): Promise<number[]> {
  return (await must([load, ...args.map(String)])).trim().split(" ").map(Number);
}

async function measure(relay: Relay, target: number): Promise<Sample> {
  const port = await freePort();
  await using running = await relay.start(port, target);
  await numbers("connect", port, WARM, WIDTH);
  let before = cpu(running.pid);
  const [seconds] = await numbers("bulk", port, BYTES);
  await Bun.sleep(50);
  const cpuPerGigabyte = (cpu(running.pid) - before) / (BYTES / 1e9);
  const [p50, p99] = await numbers("ping", port, PINGS);
  before = cpu(running.pid);
  const [took] = await numbers("connect", port, CONNECTIONS, WIDTH);
  await Bun.sleep(50);
  const cpuPerConnection = ((cpu(running.pid) - before) / CONNECTIONS) * 1e6;
  return {
    gigabytesPerSecond: BYTES / 1e9 / seconds!,
    cpuPerGigabyte,
    p50: p50!,
    p99: p99!,
    connectionsPerSecond: CONNECTIONS / took!,
    cpuPerConnection,
  };
}

/** MiB with nothing to do, and with that many idle connections. */
async function memory(relay: Relay, target: number): Promise<[number, number] | undefined> {
  const port = await freePort();
  await using running = await relay.start(port, target);
  await numbers("connect", port, 100, WIDTH);
  const empty = rss(running.pid);
  await using client = new Running([load, "idle", String(port), String(relay.idle ?? IDLE)]);
  try {
    await client.until(/open/);
  } catch {
    return undefined;
  }
  return [empty, rss(running.pid)];
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

try {
  const compiler = Bun.which("gcc") ?? Bun.which("cc") ?? "clang";
  for (const [source, out] of [
    ["load", load],
    ["loop", loop],
  ] as const)
    await must([compiler, "-O2", "-pthread", "-o", out, join(import.meta.dir, `${source}.c`)]);
  const target = await freePort();
  await using server = new Running([load, "serve", String(target)]);
  await server.until(/ready/);
  const only = process.env.ONLY?.split(",");
  const relays = RELAYS.filter(({ name }) => !only || only.includes(name));
  const samples = new Map<Relay, Sample[]>(relays.map((relay) => [relay, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const relay of relays) samples.get(relay)!.push(await measure(relay, target));
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
  }
  const figure = (relay: Relay, key: keyof Sample) =>
    median(samples.get(relay)!.map((sample) => sample[key]));
  const cell = (relay: Relay, key: keyof Sample, digits: number) =>
    `${figure(relay, key).toFixed(digits)} (${(figure(relay, key) / figure(relays[0]!, key)).toFixed(2)})`.padStart(
      15,
    );
  console.log(
    `${"".padEnd(22)}${["GB/s", "CPU s/GB", "p50 us", "p99 us", "conn/s", "CPU us/conn"].map((h) => h.padStart(15)).join(" ")}`,
  );
  for (const relay of relays) {
    const cells = [
      cell(relay, "gigabytesPerSecond", 2),
      cell(relay, "cpuPerGigabyte", 3),
      cell(relay, "p50", 1),
      cell(relay, "p99", 1),
      cell(relay, "connectionsPerSecond", 0),
      cell(relay, "cpuPerConnection", 1),
    ];
    console.log(`${relay.name.padEnd(22)}${cells.join(" ")}`);
  }
  if (process.env.IDLE !== "0") {
    for (const relay of relays) {
      const used = await memory(relay, target);
      const text = used
        ? `${used[0].toFixed(0)} MiB empty, ${used[1].toFixed(0)} MiB`
        : "not all could be opened";
      console.log(`${relay.name.padEnd(22)} with ${relay.idle ?? IDLE} idle connections: ${text}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
