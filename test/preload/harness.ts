/**
 * What the tests of the preload library share: C programs compiled once, a sender in front of a virtual
 * listener, and programs started under the library.
 */
import { afterAll } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, type NetConnectOpts } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Need, program } from "../kit/require.ts";
import { PATIENCE_MS } from "../kit/running.ts";

export const library = join(import.meta.dir, "../../zig-out/lib/libsocketbox-preload.so");
export const sources = join(import.meta.dir, "../../cshim/preload");

/** The runtime library of a sanitizer of gcc, `asan` or `tsan`. */
export function sanitizer(name: string): Need {
  const path = program("gcc").met
    ? Bun.spawnSync(["gcc", `-print-file-name=lib${name}.so`]).stdout.toString()
    : "";
  return { name: `gcc with lib${name}`, met: path.startsWith("/") };
}

/** Compiles inputs, in folder, into a program under the sanitizers of memory and behaviour. */
export function compileSanitized(output: string, inputs: readonly string[], cwd: string, std = "c11"): void {
  const flags = [`-std=${std}`, "-Wall", "-Wextra", "-Werror", "-D_DEFAULT_SOURCE", "-g", "-O1", "-pthread"];
  const sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
  const built = Bun.spawnSync(["gcc", ...flags, ...sanitize, "-o", output, ...inputs, "-ldl"], { cwd });
  if (built.exitCode !== 0 || built.stderr.length > 0) throw new Error(built.stderr.toString());
}

/** Runs a test of cshim/test/check.h: the promises that were broken, or a complaint of the sanitizers. */
export function brokenPromises(program: string): string[] {
  const { stdout, stderr, exitCode } = Bun.spawnSync([program]);
  const broken = stdout
    .toString()
    .trimEnd()
    .split("\n")
    .filter((line) => !line.startsWith("ok - "));
  return exitCode === 0 ? broken : [...broken, `exit ${exitCode}`, stderr.toString()];
}

/** A folder that goes when the tests of the file are done; open to all, since daemons change their user. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "socketbox-preload-"));
  chmodSync(folder, 0o777);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Compiles the C program `name`.c beside this file into folder, or a library; returns its path. */
export function compile(name: string, folder: string, ...more: string[]): string {
  const output = join(folder, name);
  const source = join(import.meta.dir, `${name}.c`);
  const flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-pthread", ...more];
  const { exitCode, stderr } = Bun.spawnSync(["gcc", ...flags, "-o", output, source]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  return output;
}

/** The lines of SOCKETBOX_MAP that send binds of these ports, on any address, to paths; others are real. */
export function mapOf(ports: Record<number, string>, kind: "r" | "s" = "r"): string {
  const lines = Object.entries(ports).map(([port, path]) => `* ${port} ${port} ${kind} ${path}\n`);
  return `${lines.join("")}* 0 65535 x\n`;
}

type Variables = Record<string, string>;

/** The environment of a program under the library: PATH and these variables, nothing else. */
export function under(variables: Variables): Variables {
  if (!existsSync(library)) throw new Error(`${library} is missing: run zig build first`);
  const path = process.env.PATH ?? "/usr/bin:/bin";
  return { PATH: `${path}:/usr/sbin`, LD_PRELOAD: library, ...variables };
}

/** Runs to the end under the library; the lines it printed. */
export async function linesOf(argv: string[], variables: Variables): Promise<string[]> {
  const child = Bun.spawn(argv, { env: under(variables), stdout: "pipe", stderr: "inherit" });
  const text = await new Response(child.stdout).text();
  await child.exited;
  return text.trimEnd().split("\n");
}

/** A program under the library that goes on running; its lines can be awaited one by one. */
export class Running implements AsyncDisposable {
  readonly child;
  readonly #reader;
  #text = "";

  constructor(argv: string[], env: Variables, options: { cwd?: string; stderr?: "inherit" | "ignore" } = {}) {
    this.child = Bun.spawn(argv, {
      env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
      detached: true,
      ...options,
    });
    this.#reader = this.child.stdout.getReader();
  }

  async line(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      const { value, done } = await this.#reader.read();
      if (done) throw new Error(`ended after: ${this.#text}`);
      this.#text += new TextDecoder().decode(value);
    }
  }

  /** Ends a `wait` of the probe. */
  continue(): void {
    this.child.stdin.write("\n");
    this.child.stdin.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 5000);
    await this.child.exited;
    clearTimeout(timer);
    try {
      process.kill(-this.child.pid, "SIGKILL"); // what it started and left: the session is its own
    } catch {
      // Nothing was left.
    }
  }
}

/** A sender in front of paths; clients come to port. */
export async function startSender(sender: string, ...paths: string[]): Promise<Running & { port: number }> {
  const running = new Running([sender, ...paths], {});
  return Object.assign(running, { port: Number(await running.line()) });
}

/**
 * One connection: sends text (each character a byte), returns what comes back until the end of it, or until
 * it contains enough.
 */
export function ask(port: number, host: string, text: string, enough?: string): Promise<string> {
  return exchange({ port, host }, text, enough);
}

/**
 * The same over a Unix stream socket. Who answers must stay until it has enough: Bun 1.4.5 takes a connection
 * that is closed again at once for one that failed.
 */
export function askPath(path: string, enough: string): Promise<string> {
  return exchange({ path }, "", enough);
}

/** Connects, sends text, and tells what comes back, as ask does. */
export function exchange(to: NetConnectOpts, text: string, enough?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(to, () => socket.write(Buffer.from(text, "latin1")));
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error(`no answer to ${JSON.stringify(text)}`)));
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
      if (enough !== undefined && answer.includes(enough)) socket.destroy();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
  });
}

/** The same question count times, twenty at a time; the answers. */
export async function askOften(count: number, question: () => Promise<string>): Promise<string[]> {
  const answers: string[] = [];
  let left = count;
  const one = async () => {
    while (left-- > 0) answers.push(await question());
  };
  await Promise.all(Array.from({ length: 20 }, one));
  return answers;
}

/** Waits until condition holds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await Bun.sleep(20))
    if (await condition()) return;
  throw new Error(`gave up waiting until ${what}`);
}
