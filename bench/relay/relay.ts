/**
 * Relays side by side: ours, a minimal C loop with splice(2) (loop.c), HAProxy with splicing, socat and
 * systemd-socket-proxyd, each with one thread, between the same client and server (load.c), on loopback.
 *
 *     bun bench/relay/relay.ts [ROUNDS [GIGABYTES [TURNS]]]
 *
 * ROUNDS of bulk and of short connections, each of which starts each relay anew; then TURNS of 64 bytes there and back,
 * with all relays started before; then memory, unless IDLE=0. 0 leaves a part out. ONLY names relays, with commas.
 *
 * Relays take turns, so that whatever else the machine does meets all alike; medians are told, and ratios to the C
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
const TURNS = Number(process.argv[4] ?? 100);
/** Of each turn: long enough for a p99, and so short that a relay is measured beside the others. */
const PINGS = 1000;
const CONNECTIONS = 10_000;
const WIDTH = 32;
/** Beyond it JavaScript is compiled; the others need no warming, and get it all the same. */
const WARM = 10_000;
/** The most that a relay may have: the hard limit. */
const DESCRIPTORS = Number(
  /^Max open files +\S+ +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? 1e6,
);
/** Each is two descriptors of a relay. */
const IDLE = Math.min(10_000, (DESCRIPTORS >> 1) - 100);
/** Two pipes for each connection are four descriptors more. */
const IDLE_WITH_PIPES = Math.min(IDLE, Math.floor(DESCRIPTORS / 6) - 100);
const TICKS = 100;

interface Relay {
  readonly name: string;
  /** Only latency is measured with it: another setting of one that is there. */
  readonly latencyOnly?: true;
  /** Idle connections that it is tried with. */
  readonly idle?: number;
  start(port: number, target: number): Promise<Running>;
}

interface Sample {
  readonly gigabytesPerSecond: number;
  readonly cpuPerGigabyte: number;
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

function startHaproxy(port: number, target: number, global: string[], defaults: string[]): Promise<Running> {
  const config = join(folder, `haproxy-${port}.cfg`);
  writeFileSync(
    config,
    [
      "global",
      "  nbthread 1",
      `  maxconn ${IDLE + 10}`,
      "  maxpipes 32", // beside two descriptors for each connection there is no room for its default
      ...global.map((line) => `  ${line}`),
      "defaults",
      "  mode tcp",
      ...defaults.map((line) => `  ${line}`),
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
}

const RELAYS: Relay[] = [
  {
    name: "C loop",
    idle: IDLE_WITH_PIPES,
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
    start: (port, target) =>
      startHaproxy(port, target, [], ["option splice-request", "option splice-response"]),
  },
  {
    name: "HAProxy copying",
    latencyOnly: true,
    start: (port, target) => startHaproxy(port, target, [], []),
  },
  {
    name: "HAProxy never asleep",
    latencyOnly: true,
    start: (port, target) => startHaproxy(port, target, ["busy-polling"], []),
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
    idle: IDLE_WITH_PIPES,
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

/** MiB in memory; of a relay that forks, with all its children. One that has ended meanwhile has none. */
function rss(pid: number): number {
  const own = Number(/^VmRSS:\s+(\d+)/m.exec(ofProcess(pid, "status"))?.[1] ?? 0) / 1024;
  const children = ofProcess(pid, `task/${pid}/children`).trim().split(" ");
  return children.filter(Boolean).reduce((sum, child) => sum + rss(Number(child)), own);
}

function ofProcess(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
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
  before = cpu(running.pid);
  const [took] = await numbers("connect", port, CONNECTIONS, WIDTH);
  await Bun.sleep(50);
  const cpuPerConnection = ((cpu(running.pid) - before) / CONNECTIONS) * 1e6;
  return {
    gigabytesPerSecond: BYTES / 1e9 / seconds!,
    cpuPerGigabyte,
    connectionsPerSecond: CONNECTIONS / took!,
    cpuPerConnection,
  };
}

/** For each turn p50 and p99 of each relay, microseconds. */
async function latencies(relays: readonly Relay[], target: number): Promise<number[][]> {
  await using all = new AsyncDisposableStack();
  const ends: number[] = [];
  for (const relay of relays) {
    const port = await freePort();
    const running = all.use(await relay.start(port, target));
    await numbers("connect", port, WARM, WIDTH);
    ends.push(port, running.pid);
  }
  const lines = await must([load, "turns", ...[PINGS, TURNS, ...ends].map(String)]);
  return lines
    .trim()
    .split("\n")
    .map((line) => line.split(" ").map(Number));
}

/** Ratios are of the same turn: the median of them all, and the quartiles. */
function tellLatencies(relays: readonly Relay[], turns: readonly number[][]): void {
  const rivals = relays.filter(({ name }) => name === "C loop" || name.startsWith("HAProxy"));
  for (const [what, offset] of [
    ["p50", 0],
    ["p99", 1],
  ] as const) {
    const of = (relay: Relay) => turns.map((turn) => turn[2 * relays.indexOf(relay) + offset]!);
    const cells = (relay: Relay) => {
      const mine = of(relay);
      const ratios = rivals.map((rival) => {
        const theirs = of(rival);
        return spread(mine.map((us, i) => us / theirs[i]!));
      });
      return [median(mine).toFixed(1), ...ratios];
    };
    tell([`${what}, us`, "", ...rivals.map(({ name }) => `to ${name}`)], 23);
    for (const relay of relays) tell([relay.name, ...cells(relay)], 23);
  }
}

function spread(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, middle, high] = [1, 2, 3].map((n) => sorted[(n * sorted.length) >> 2]!.toFixed(2));
  return `${middle} (${low}-${high})`;
}

function tell([name, ...cells]: readonly string[], width: number): void {
  console.log(`${name!.padEnd(22)}${cells.map((cell) => cell.padStart(width)).join(" ")}`);
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
  const whole = relays.filter(({ latencyOnly }) => !latencyOnly);
  const samples = new Map<Relay, Sample[]>(whole.map((relay) => [relay, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const relay of whole) samples.get(relay)!.push(await measure(relay, target));
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
  }
  if (ROUNDS > 0) {
    const figure = (relay: Relay, key: keyof Sample) =>
      median(samples.get(relay)!.map((sample) => sample[key]));
    const cell = (relay: Relay, key: keyof Sample, digits: number) =>
      `${figure(relay, key).toFixed(digits)} (${(figure(relay, key) / figure(whole[0]!, key)).toFixed(2)})`;
    tell(["", "GB/s", "CPU s/GB", "conn/s", "CPU us/conn"], 15);
    for (const relay of whole) {
      const cells = [
        cell(relay, "gigabytesPerSecond", 2),
        cell(relay, "cpuPerGigabyte", 3),
        cell(relay, "connectionsPerSecond", 0),
        cell(relay, "cpuPerConnection", 1),
      ];
      tell([relay.name, ...cells], 15);
    }
  }
  if (TURNS > 0) tellLatencies(relays, await latencies(relays, target));
  if (process.env.IDLE !== "0") {
    for (const relay of whole) {
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
