/** Everything at once, by seed: what is done to the server and its receivers is the same for the same seed. */
import { expect, test } from "bun:test";
import { renameSync, writeFileSync } from "node:fs";
import { descriptors, freePort, PATIENCE_MS, Running, ready, scratch, until } from "../kit/running.ts";
import { load, type Outcome } from "../kit/tools.ts";
import { RECEIVER_QUEUE, receiver, totals } from "./kit.ts";

const TARGETS = [1, 2, 3, 4, 5];
const NAMES = ["a", "b", "c", "d", "d.1", "127.0.0.5"];
/** After so long all receivers are there again, and whoever waits is served. */
const CHAOS_MS = 5000;
const COUNT = 800;

/** Mulberry32: numbers from 0 to 1. */
function randomBy(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Soak implements AsyncDisposable {
  readonly #folder = scratch();
  readonly #random: () => number;
  readonly #receivers = new Map<string, Running>();
  readonly #stopped = new Set<Running>();
  readonly #all: Running[] = [];
  readonly port: number;
  readonly #other: number;
  #server!: Running;
  kills = 0;
  /** What servers said that were taken over from. */
  readonly sums: Record<string, number> = {};

  readonly #workers: number;

  constructor(seed: number, workers: number, port: number, other: number) {
    this.#workers = workers;
    this.#random = randomBy(seed);
    this.port = port;
    this.#other = other;
  }

  get server(): Running {
    return this.#server;
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)]!;
  }

  #write(ports: readonly number[], text: string): void {
    const file = this.#folder.file("c.toml");
    const listeners = ports.map(
      (port) => `[[listen]]\nname = "p${port}"\naddress = "0.0.0.0"\nport = ${port}\n`,
    );
    writeFileSync(`${file}.new`, `[server]\nworkers = ${this.#workers}\n${listeners.join("")}${text}`);
    renameSync(`${file}.new`, file);
  }

  #target(number: number): string {
    const path = (name: string) => `"unix:${this.#folder.file(name)}"`;
    const [to, more] = this.#pick([
      [path("a"), ""],
      [path(this.#pick(NAMES)), ""],
      [`[${path("a")}, ${path("b")}, ${path("c")}]`, `fallback = true\nbalance = "least-waiting"\n`],
      [`[${path("b")}, ${path("c")}]`, `balance = "${this.#pick(["round-robin", "source-hash"])}"\n`],
      [`[${path("c")}, ${path("d")}]`, "spread = true\nfallback = true\n"],
      [path("d"), "spread = true\n"],
      [path("{local}"), ""],
    ]);
    const limits = `queue = ${this.#pick([1, 50, 1024, 1024])}\nwait = "${this.#pick([0, 300, 5000, 5000])}ms"\n`;
    return (
      `[[route]]\nlocal = "127.0.0.${number}"\nto = "target:t${number}"\n` +
      `[target.t${number}]\nto = ${to}\n${more}${limits}`
    );
  }

  configure(): void {
    const ports = this.#random() < 0.5 ? [this.port] : [this.port, this.#other];
    this.#write(ports, TARGETS.map((number) => this.#target(number)).join(""));
  }

  /** All are denied: no way is needed. */
  configureNothing(): void {
    this.#write([this.port], '[[route]]\nto = "deny"\n');
  }

  async start(): Promise<void> {
    const arguments_ = ["-f", this.#folder.file("c.toml"), "--takeover", this.#folder.file("takeover")];
    const before = this.#server;
    this.#server = await ready("socketbox", arguments_);
    this.#all.push(this.#server);
    if (before) this.count(await totalsOf(before));
  }

  count(counts: Readonly<Record<string, number>>): void {
    for (const [name, count] of Object.entries(counts)) this.sums[name] = (this.sums[name] ?? 0) + count;
  }

  async reload(): Promise<void> {
    await this.#says(/: reloaded: .*\n/, () => this.#server.kill("SIGHUP"));
  }

  /** What the server says when that is done. */
  async #says(line: RegExp, act: () => unknown): Promise<void> {
    const server = this.#server;
    const before = server.log.length;
    await act();
    for (
      const end = performance.now() + PATIENCE_MS;
      !line.test(server.log.slice(before));
      await Bun.sleep(2)
    )
      if (performance.now() > end) throw new Error(`${line} did not come:\n${server.log}`);
  }

  /** Somebody is told everything, and goes. */
  async #fail(): Promise<void> {
    const script =
      'import { Predecessor } from "./src/programs/takeover.ts";' +
      `const from = Predecessor.find("${this.#folder.file("takeover")}", [process.geteuid()]);` +
      "from.listeners(); from.rest();";
    await using failing = new Running([process.execPath, "-e", script]);
    if ((await failing.ended()) !== 0) throw new Error(`${failing.log}\n${this.#server.log}`);
  }

  async begin(name: string): Promise<void> {
    if (this.#receivers.has(name)) return;
    // In the end it takes away where it was bound, which is no other's place by then.
    const path = this.#folder.file(`bound${this.#all.length}`);
    const fresh = await receiver("-d", this.#pick(["0", "200", "2000"]), path);
    this.#all.push(fresh);
    renameSync(path, this.#folder.file(name));
    this.#receivers.set(name, fresh);
  }

  #go(running: Running): void {
    if (this.#stopped.delete(running)) running.kill("SIGCONT");
  }

  /** Serves what it has, and goes. */
  #dismiss(name: string): void {
    const running = this.#receivers.get(name);
    if (!running) return;
    this.#go(running);
    running.kill("SIGTERM");
    this.#receivers.delete(name);
  }

  async act(violent: boolean): Promise<void> {
    const name = this.#pick(NAMES);
    const running = this.#receivers.get(name);
    switch (
      this.#pick(["reload", "reload", "begin", "end", "restart", "stop", "go", "takeover", "fail", "kill"])
    ) {
      case "reload":
        this.configure();
        return this.reload();
      case "begin":
        return this.begin(name);
      case "end":
        return this.#dismiss(name);
      case "restart": // the new one has the path before the old one goes
        this.#receivers.delete(name);
        await this.begin(name);
        if (running) {
          this.#go(running);
          running.kill("SIGTERM");
        }
        return;
      case "stop":
        if (running) this.#stopped.add(running);
        return running?.kill("SIGSTOP");
      case "go":
        return running && this.#go(running);
      case "takeover":
        return this.start();
      case "fail":
        return this.#says(/going on\n/, () => this.#fail());
      case "kill":
        if (!violent || !running) return;
        this.kills++;
        running.kill("SIGKILL");
        this.#receivers.delete(name);
    }
  }

  async calm(): Promise<void> {
    for (const name of NAMES) await this.begin(name);
    for (const running of this.#stopped) this.#go(running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#stopped) this.#go(running);
    for (const running of this.#all) await running[Symbol.asyncDispose]();
    this.#folder[Symbol.dispose]();
  }
}

/** Of one that goes by itself. */
async function totalsOf(server: Running): Promise<Readonly<Record<string, number>>> {
  await server.ended();
  return totals(server);
}

const sumOf = (outcomes: readonly Outcome[], what: "served" | "closed" | "reset" | "refused" | "stuck") =>
  outcomes.reduce((sum, outcome) => sum + outcome[what], 0);

for (const [seed, violent] of [
  [1, false],
  [2, true],
] as const) {
  test(`whatever happens, each client is served, or given up and counted, and no descriptor stays (seed ${seed})`, async () => {
    await using soak = new Soak(seed, violent ? 2 : 1, await freePort(), await freePort());
    soak.configureNothing();
    await soak.start();
    // Once somebody has been answered, the server has opened all that it needs for itself.
    const first = await load({ port: soak.port, count: 1, atATime: 1 });
    const open = descriptors(soak.server.pid);
    soak.configure();
    await soak.reload();
    const patience = violent ? "1" : "100"; // clients that lose it reset their connections
    const clients = TARGETS.map((number) =>
      load({
        port: soak.port,
        count: COUNT,
        atATime: 40,
        options: ["-a", `::ffff:127.0.0.${number}`, "-t", patience],
      }),
    );
    for (const end = performance.now() + CHAOS_MS; performance.now() < end; ) await soak.act(violent);
    await soak.calm();
    const outcomes = [first, ...(await Promise.all(clients))];
    soak.configureNothing();
    await soak.reload();
    await until(
      () => descriptors(soak.server.pid) <= open,
      () => `${descriptors(soak.server.pid)} descriptors are open, at first ${open}`,
    );
    soak.count(await totals(soak.server));

    const { accepted = 0, delivered = 0, ...gaveUp } = soak.sums;
    const closed = Object.values(gaveUp).reduce((sum, count) => sum + count, 0);
    const [served, stuck] = [sumOf(outcomes, "served"), sumOf(outcomes, "stuck")];
    const lost = sumOf(outcomes, "closed") + sumOf(outcomes, "reset");
    expect(accepted).toBe(1 + COUNT * TARGETS.length);
    expect(served + stuck + lost).toBe(accepted);
    expect(delivered + closed).toBe(accepted);
    // What was delivered is served, but for what lay with a receiver that was killed, or whose client lost patience.
    expect(delivered - served).toBeWithin(0, 1 + (violent ? stuck + soak.kills * (RECEIVER_QUEUE + 1) : 0));
    if (!violent) expect(closed).toBe(lost);
  });
}
