/**
 * What socketbox-preload costs nginx: under the library behind our server, under the least library (least.c) behind
 * the least server (../floor.c), and alone, in turns, asked by wrk. See ../README.md.
 *
 *     bench/preload/preload.ts [ROUNDS [SECONDS [kept|new]]]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bin, freePort, must, Running, ready, scratch } from "../../test/kit/running.ts";
import { tool } from "../../test/kit/tools.ts";
import { cpuMicroseconds, median, ownNetwork } from "../measure.ts";

const [rounds = "25", seconds = "1", only] = process.argv.slice(2);
const ROUNDS = Number(rounds);
const CONNECTIONS = 32;
const LEAST_THROUGHPUT = 0.98;
const MOST_CPU = 1.15;

/** nginx and what accepts for it. */
interface Serving {
  readonly name: string;
  readonly port: number;
  readonly daemon: Running;
  /** None: nginx accepts itself. */
  readonly server: Running | undefined;
}

interface Sample {
  readonly requestsPerSecond: number;
  /** Microseconds, of nginx and of the server. */
  readonly cpuPerRequest: number;
  /** Of the server alone. */
  readonly serverPerRequest: number;
  readonly failed: number;
}

interface Way {
  readonly title: string;
  readonly headers: readonly string[];
}

const KEPT: Way = { title: "kept-alive connections", headers: [] };
const NEW: Way = { title: "a new connection for each request", headers: ["Connection: close"] };

ownNetwork(import.meta.path);
using folder = scratch();
await using programs = new AsyncDisposableStack();
const start = (command: readonly string[], env: Record<string, string> = {}): Running => {
  const running = new Running(command, { env: { PATH: `${process.env.PATH}:/usr/sbin`, ...env } });
  programs.defer(async () => void (await running.stop())); // a worker outlives a master that is killed
  return running;
};

const servings = [await alone(), await behindOurs(), await behindLeast()] as const;
const [direct, ours, least] = servings;

if (only !== "new") {
  const samples = await measure(KEPT, [direct, ours]);
  print(KEPT, samples, direct);
  const ratio = of(samples, ours, "requestsPerSecond") / of(samples, direct, "requestsPerSecond");
  const claim = `x ${ratio.toFixed(3)} of its throughput (at least ${LEAST_THROUGHPUT})`;
  conclude(claim, ratio >= LEAST_THROUGHPUT, samples);
}
if (only !== "kept") {
  const samples = await measure(NEW, servings);
  print(NEW, samples, least);
  const ratio = of(samples, ours, "cpuPerRequest") / of(samples, least, "cpuPerRequest");
  const claim = `x ${ratio.toFixed(3)} of the least pair's CPU time (at most ${MOST_CPU})`;
  conclude(claim, ratio <= MOST_CPU, samples);
}

// ---- what is measured ----

async function alone(): Promise<Serving> {
  const port = await freePort();
  return serving("nginx alone", port, start(nginx("alone", port)));
}

async function behindOurs(): Promise<Serving> {
  const [port, bound] = [await freePort(), await freePort()];
  const path = folder.file("ours.sock");
  const map = ["--map", `${bound}=${path}`];
  const daemon = start([bin("socketbox-preload"), ...map, "--", ...nginx("ours", bound)]);
  const config = folder.file("routes.toml");
  writeFileSync(config, `[[route]]\nto = "unix:${path}"\n`);
  const server = programs.use(await ready("socketbox", ["-f", config, "-p", String(port)]));
  return serving("socketbox-preload behind socketbox", port, daemon, server);
}

async function behindLeast(): Promise<Serving> {
  const [port, bound] = [await freePort(), await freePort()];
  const path = folder.file("least.sock");
  const library = folder.file("least.so");
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"];
  await must(["gcc", ...flags, "-o", library, join(import.meta.dir, "least.c")]);
  const daemon = start(nginx("least", bound), { LD_PRELOAD: library, LEAST_PATH: path });
  await made(path);
  const server = start([tool("bench/floor.c"), String(port), path]);
  await server.until(/ready/);
  return serving("least.c behind floor.c", port, daemon, server);
}

/** One worker and no log, the same for all. */
function nginx(name: string, port: number): string[] {
  const file = folder.file(`${name}.conf`);
  writeFileSync(
    file,
    `daemon off; pid ${file}.pid; worker_processes 1; error_log ${file}.log;
     events { worker_connections 1024; }
     http { access_log off; keepalive_requests 1000000000;
            server { listen ${port}; location / { return 200 "hello\\n"; } } }\n`,
  );
  return ["nginx", "-p", folder.path, "-e", `${file}.log`, "-c", file];
}

/** Waits until it answers. */
async function serving(name: string, port: number, daemon: Running, server?: Running): Promise<Serving> {
  const end = Date.now() + 10_000;
  for (;;) {
    const signal = AbortSignal.timeout(1000);
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal, keepalive: false }).catch(
      () => undefined,
    );
    if (answer?.ok) return { name, port, daemon, server };
    if (Date.now() > end) throw new Error(`${name}: no answer\n${daemon.log}${server?.log ?? ""}`);
    await Bun.sleep(10);
  }
}

async function made(path: string): Promise<void> {
  const end = Date.now() + 10_000;
  while (
    !(await Bun.file(path)
      .stat()
      .catch(() => undefined))
  ) {
    if (Date.now() > end) throw new Error(`${path} does not appear`);
    await Bun.sleep(10);
  }
}

// ---- measuring ----

/** Once without counting, then in turns, of which every other one goes backwards. */
async function measure(
  way: Way,
  which: readonly Serving[],
): Promise<ReadonlyMap<Serving, readonly Sample[]>> {
  for (const one of which) await sample(way, one);
  const samples = new Map(which.map((one) => [one, [] as Sample[]]));
  for (let round = 0; round < ROUNDS; round++)
    for (const one of round % 2 === 0 ? which : which.toReversed())
      samples.get(one)!.push(await sample(way, one));
  return samples;
}

async function sample({ headers }: Way, { port, daemon, server }: Serving): Promise<Sample> {
  const before = [cpu(daemon), cpu(server)] as const;
  const text = await must([
    "wrk",
    ...["-t", "1", "-c", String(CONNECTIONS), "-d", seconds],
    ...headers.flatMap((header) => ["-H", header]),
    ...["-s", join(import.meta.dir, "summary.lua"), `http://127.0.0.1:${port}/`],
  ]);
  const [nginx, accepting] = [cpu(daemon) - before[0], cpu(server) - before[1]];
  const { requests, microseconds, failed } = JSON.parse(/\{.*\}/.exec(text)![0]) as Record<string, number>;
  return {
    requestsPerSecond: (requests! / microseconds!) * 1e6,
    cpuPerRequest: (nginx + accepting) / requests!,
    serverPerRequest: accepting / requests!,
    failed: failed!,
  };
}

/** Of a program and its children (nginx has a worker), so far. */
function cpu(running: Running | undefined): number {
  if (!running) return 0;
  return [running.pid, ...childrenOf(running.pid)].reduce((sum, pid) => sum + cpuMicroseconds(pid), 0);
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .trim()
    .split(" ")
    .filter(Boolean)
    .map(Number);
}

// ---- telling ----

type Samples = ReadonlyMap<Serving, readonly Sample[]>;

function of(samples: Samples, which: Serving, key: keyof Sample): number {
  return median(samples.get(which)!.map((sample) => sample[key]));
}

function print({ title }: Way, samples: Samples, unit: Serving): void {
  console.log(`${title}, ${CONNECTIONS} at a time, median of ${ROUNDS} runs of ${seconds} s`);
  for (const which of samples.keys()) {
    const cells = (["requestsPerSecond", "cpuPerRequest"] as const).map((key) => {
      const value = of(samples, which, key);
      return `${value.toFixed(1).padStart(9)} (${(value / of(samples, unit, key)).toFixed(3)})`;
    });
    const server = of(samples, which, "serverPerRequest").toFixed(1);
    console.log(
      `  ${which.name.padEnd(36)} ${cells[0]} requests/s  ${cells[1]} us of CPU each, ${server} of them in the server`,
    );
  }
}

function conclude(claim: string, holds: boolean, samples: Samples): void {
  const failed = [...samples.values()].flat().reduce((sum, sample) => sum + sample.failed, 0);
  console.log(`  ${claim}, ${failed} failed: ${holds && failed === 0 ? "holds" : "DOES NOT HOLD"}`);
}
