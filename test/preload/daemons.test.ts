/**
 * Real daemons behind the real server, each with its own configuration: they believe that they listen on port 80.
 * 200 requests, 20 at a time, over IPv4 and IPv6; then each is replaced while clients come. docs/COMPATIBILITY.md is
 * the table of what came of it: SOCKETBOX_WRITE=1 writes it, otherwise it must say the same, versions apart.
 */
import { expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { SOCK } from "../../src/io/socket.ts";
import { cString, native } from "../../src/native/library.ts";
import { PATH, program, root, testWith } from "../kit/require.ts";
import { bin, freePort, PATIENCE_MS, ROOT, type Running, ready } from "../kit/running.ts";
import { CLIENT, type Daemon, SERVER } from "./daemons/daemon.ts";
import { languages } from "./daemons/languages.ts";
import { services } from "./daemons/services.ts";
import { stores } from "./daemons/stores.ts";
import { web } from "./daemons/web.ts";
import { askOften, compile, scratchFolder, until } from "./harness.ts";

const gcc = program("gcc");
const daemons = [...web, ...stores, ...services, ...languages];
const folder = scratchFolder();
const clients = gcc.met ? compile("clients", folder) : "";
const witness = gcc.met ? compile("witness", folder, "-shared", "-fPIC") : "";

/** A socket that outlives the daemon, as a service manager would hold it (ListenDatagram=, LISTEN_FDS). */
function holdReceiver(path: string): number {
  const fd = native.sb_bind_unix(cString(path), SOCK.datagram, 0o660);
  if (fd < 0) throw new Error(`bind ${path}: ${fd}`);
  chmodSync(path, 0o666); // daemons under their own users
  return fd;
}

/** One connection from a client's address to the server's: what comes back until the end, or until it is enough. */
function ask(port: number, family: 4 | 6, { question, enough }: Daemon): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const route = family === 4 ? { host: SERVER, localAddress: CLIENT } : { host: "::1" };
  let answer = "";
  const socket = connect({ port, ...route }, () => socket.write(Buffer.from(question, "latin1")));
  socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error("no answer")));
  socket.on("data", (chunk) => {
    answer += chunk.toString("latin1");
    if (enough !== undefined && answer.includes(enough)) socket.destroy();
  });
  socket.on("error", reject);
  socket.on("close", () => resolve(answer));
  return promise;
}

/** A process and all that it started, and they started, parents first. */
function family(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((each) => /^\d+$/.test(each))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = [pid];
  for (const each of found) for (const [child, parent] of parents) if (parent === each) found.push(child);
  return found;
}

function killAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended.
    }
  }
}

/** A daemon under socketbox-preload, with its receiver held open if `receiver` is given. */
class UnderPreload implements AsyncDisposable {
  readonly child;

  constructor(
    readonly home: string,
    argv: readonly string[],
    { map, variables }: { map: readonly string[]; variables: Record<string, string> },
    receiver?: number,
  ) {
    const output = openSync(join(home, "output"), "a");
    this.child = Bun.spawn([bin("socketbox-preload"), ...map, "--", ...argv], {
      cwd: home,
      env: { PATH, HOME: home, ...variables },
      stdio: ["ignore", output, output, ...(receiver === undefined ? [] : [receiver])],
      detached: true,
    });
    closeSync(output);
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const ended = this.child.exited.then(() => true);
    for (let attempt = 0; attempt < 12; attempt++) {
      // Python loses the KeyboardInterrupt that comes to it in a weakref's callback: who types ^C types it again.
      if (attempt === 0 || signal === "SIGINT") this.child.kill(signal);
      if (await Promise.race([ended, Bun.sleep(5000)])) return;
    }
    const output = readFileSync(join(this.home, "output"), "utf8").slice(-2000);
    throw new Error(`${signal} did not end it; its last words:\n${output}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pids = family(this.child.pid);
    this.child.kill("SIGTERM");
    await Promise.race([this.child.exited, Bun.sleep(3000)]);
    killAll(pids, "SIGKILL");
    killAll([-this.child.pid], "SIGKILL"); // what it left in its session
    await this.child.exited;
  }
}

/** Rows of docs/COMPATIBILITY.md: daemon, version, what was tried, result. */
const rows: string[][] = [];

/** What a command begins with to have the witness before the library, or after it. */
function watched({ restart }: Daemon): string[] {
  if (restart.kind !== "cut") return [];
  const libraries = restart.uncaught ? "$LD_PRELOAD:$0" : "$0:$LD_PRELOAD";
  return ["sh", "-c", `LD_PRELOAD="${libraries}" exec "$@"`, witness];
}

const hex = (text = "") => Buffer.from(text, "latin1").toString("hex");

/** Clients that come all the time, twenty at once, until they are sent home. */
class Crowd implements AsyncDisposable {
  readonly #process;
  readonly #reading: Promise<void>;
  /** The ports of those who got their whole answer. */
  readonly served: number[] = [];
  readonly failed: { port: number; why: string }[] = [];

  constructor(port: number, { question, enough, answer, refusal }: Daemon) {
    this.#process = Bun.spawn([clients, `${port}`, SERVER, CLIENT, hex(question), hex(enough)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#reading = this.#read(answer, refusal?.answer);
  }

  async #read(expected: RegExp, refused?: RegExp): Promise<void> {
    let rest = "";
    for await (const chunk of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const [port, family, error, digits] = line.split(" ");
        const answer = Buffer.from(digits!, "hex").toString("latin1");
        // What has come before an error is an answer all the same, if it is a whole one.
        if (expected.test(answer)) this.served.push(Number(port));
        else if (!refused?.test(answer))
          this.failed.push({ port: Number(port), why: `IPv${family}, errno ${error}: ${answer}` });
      }
    }
  }

  async serves(more: number): Promise<void> {
    const target = this.served.length + more;
    await until(`${more} more clients are served`, () => this.served.length >= target);
  }

  async goHome(): Promise<void> {
    this.#process.stdin.end();
    await this.#reading;
    await this.#process.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill();
    await this.#process.exited;
  }
}

class Trial implements AsyncDisposable {
  #running: UnderPreload;
  #turn = 0;

  private constructor(
    readonly daemon: Daemon,
    readonly server: Running,
    readonly port: number,
    readonly start: (...before: string[]) => UnderPreload,
    readonly receiver: number,
    /** Where the witness writes the ports of the connections that the first daemon has accepted. */
    readonly witnessed: string,
  ) {
    this.#running = start(...watched(daemon));
  }

  static async of(daemon: Daemon, home: string): Promise<Trial> {
    const argv = daemon.prepare(home);
    const witnessed = join(home, "witness");
    const original = daemon.original?.(home);
    const path = original?.path ?? join(home, "receiver");
    mkdirSync(join(path, ".."), { recursive: true });
    const under = {
      map: original ? [] : ["--map", `80=${path}`, "--default", "direct"],
      variables: { ...original?.variables, WITNESS: witnessed },
    };
    writeFileSync(witnessed, "");
    chmodSync(witnessed, 0o666);
    const receiver = holdReceiver(path);
    const port = await freePort();
    const server = await ready("socketbox", ["-l", "::", "-p", `${port}`, "-S", path]);
    const start = (...before: string[]) => new UnderPreload(home, [...before, ...argv], under, receiver);
    return new Trial(daemon, server, port, start, receiver, witnessed);
  }

  question(): Promise<string> {
    return ask(this.port, this.#turn++ % 2 ? 4 : 6, this.daemon);
  }

  get alive(): boolean {
    return this.#running.child.exitCode === null;
  }

  /** Replaces the daemon under load: what clients got who were lost. */
  async restart(): Promise<string[]> {
    await using crowd = new Crowd(this.port, this.daemon);
    await crowd.serves(40);
    await this.#replace();
    await crowd.serves(40);
    await crowd.goHome();
    if (this.daemon.restart.kind !== "cut") return crowd.failed.map(({ why }) => why);
    const accepted = new Set(readFileSync(this.witnessed, "utf8").split("\n").map(Number));
    // Otherwise it was not there, and what it did not see says nothing.
    expect(crowd.served.filter((port) => accepted.has(port)).length).toBeGreaterThan(20);
    return crowd.failed.filter(({ port }) => !accepted.has(port)).map(({ why }) => why);
  }

  async #replace(): Promise<void> {
    const { restart } = this.daemon;
    switch (restart.kind) {
      case "reload": {
        const before = family(this.#running.child.pid).slice(1);
        this.#running.child.kill(restart.signal);
        return until("it has replaced its processes", () =>
          before.every((pid) => !existsSync(`/proc/${pid}`)),
        );
      }
      case "stop":
      case "cut":
        await this.#running.stop(restart.signal);
        this.#running = this.start();
        return;
      case "upgrade":
        return this.#upgrade();
    }
  }

  async #upgrade(): Promise<void> {
    const file = join(this.#running.home, "nginx.pid");
    const master = () => (existsSync(file) ? Number(readFileSync(file, "utf8")) : 0);
    const old = master();
    await until("its starter has ended", () => !family(this.#running.child.pid).includes(old));
    process.kill(old, "SIGUSR2");
    await until(
      "the new master has workers",
      () => ![0, old].includes(master()) && family(master()).length > 4,
    );
    process.kill(old, "SIGQUIT");
    await until("the old one has ended", () => !existsSync(`/proc/${old}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
    closeSync(this.receiver);
  }
}

function versionOf(daemon: Daemon): string {
  const { stdout, stderr } = Bun.spawnSync([...daemon.version], { env: { ...process.env, PATH } });
  const text = `${stdout}${stderr}`;
  return (/\d+(\.\d+)+\w*/.exec(text) ?? /\d+/.exec(text))?.[0] ?? "?";
}

const HOW = {
  reload: "reloaded under load: none lost",
  stop: "stopped and started under load: none lost",
  upgrade: "upgraded under load: none lost",
  cut: "stopped and started under load: none lost that waited",
};

for (const [index, daemon] of daemons.entries()) {
  const needs = [root, gcc, program(daemon.binary)];
  if (daemon.need) needs.push({ name: daemon.need.name, met: daemon.need.met() });
  testWith(...needs)(`${daemon.name} (${daemon.tried})`, async () => {
    const home = join(folder, `${index}`);
    mkdirSync(home);
    chmodSync(home, 0o777);
    await using trial = await Trial.of(daemon, home);
    await until("it has started", async () => !daemon.refusal?.answer.test(await trial.question()));
    for (const _ of [4, 6]) expect(await trial.question()).toMatch(daemon.answer);
    const answers = await askOften(200, () => trial.question());
    expect(answers.filter((answer) => !daemon.answer.test(answer))).toEqual([]);
    expect(trial.alive).toBe(true);
    const { log } = daemon;
    if (log)
      await until("the log names the client", () =>
        log.pattern.test(readFileSync(join(home, log.file), "latin1")),
      );
    expect(await trial.restart()).toEqual([]);
    expect(await trial.question()).toMatch(daemon.answer);
    const addresses = daemon.tellsServer ? "client's and server's address true" : "client's address true";
    const remarks = [
      daemon.restart.kind === "cut" ? daemon.restart.why : [],
      daemon.refusal?.told ?? [],
    ].flat();
    const result = ["200 of 200", addresses, HOW[daemon.restart.kind], ...remarks].join("; ");
    rows.push([daemon.name, versionOf(daemon), daemon.tried, result]);
  });
}

const INTRODUCTION = `# Daemons under the preload library

Each daemon below ran under \`socketbox-preload --map 80=PATH\`, or with an address of the original where the row says
so, behind \`socketbox -S PATH\`: it was configured to listen on port 80, and nothing else was changed. Every row is 200
requests, 20 at a time, half of them from ${CLIENT} to ${SERVER} and half over IPv6; then the daemon was replaced, its
receiver being held open as a service manager does it. That the client's address is true was seen in the daemon's log,
or in its answer. Clients came all the time, 20 at a time, while it was replaced. A daemon that cuts what it has accepted
when it is stopped does so over TCP, too: the row says why, and "none lost that waited" means that each client that was
cut is one that accept had given to the daemon, or was about to when the signal ended vsftpd inside it; a library between
the two wrote them down.

What cannot work is told in [PRELOAD.md](PRELOAD.md#what-cannot-work); \`socketbox-preload\` refuses it beforehand where
it can be known.

\`SOCKETBOX_WRITE=1 bin/test test/preload/daemons.test.ts\` writes this table; without the variable the test compares.
`;

const document = join(ROOT, "docs/COMPATIBILITY.md");
const cellsOf = (line: string) =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());
const withoutVersion = (cells: readonly string[]) => cells.filter((_, column) => column !== 1).join(" | ");

function tableOf(lines: readonly (readonly string[])[]): string {
  const all = [["daemon", "version", "what was tried", "result"], ...lines];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((cells) => cells[column]!.length)));
  const format = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [format(all[0]!), rule, ...lines.map(format)].join("\n");
}

test("docs/COMPATIBILITY.md says what came of it", () => {
  if (process.env.SOCKETBOX_WRITE === "1") writeFileSync(document, `${INTRODUCTION}\n${tableOf(rows)}\n`);
  const text = readFileSync(document, "utf8");
  const written = text
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .slice(2)
    .map(cellsOf)
    .map(withoutVersion);
  expect(text).toStartWith(INTRODUCTION);
  expect(written.length).toBe(daemons.length);
  expect(rows.map(withoutVersion).filter((row) => !written.includes(row))).toEqual([]);
});
