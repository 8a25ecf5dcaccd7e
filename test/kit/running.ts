/** Real programs, started, listened to, and stopped: each test ends what it started, and nothing else. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PATH } from "./require.ts";

export { freePort } from "./ports.ts";

export const ROOT = join(import.meta.dir, "../..");

/** The path of one of our programs in this checkout. */
export function bin(name: string): string {
  return join(ROOT, "bin", name);
}

/** A fresh folder that goes when the scope ends. Its path is short: Unix socket paths have 107 bytes at most. */
export function scratch(): Disposable & { readonly path: string; file(name: string): string } {
  const path = mkdtempSync(join(tmpdir(), "sb-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** How long a test waits for what must come. It does not take a hundredth of it, but on a machine that is busy. */
export const PATIENCE_MS = 60_000;

/** Waits until that is so. */
export async function until(condition: () => boolean, complaint: () => string): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; !condition(); await Bun.sleep(5))
    if (Date.now() > end) throw new Error(complaint());
}

/** Waits until it is that many: what is let go of with an answer, or a line of the log, goes a moment later. */
export function settles(count: () => number, wanted: number): Promise<void> {
  return until(
    () => count() === wanted,
    () => `${count()}, and not ${wanted}`,
  );
}

export interface Options {
  readonly env?: Record<string, string | undefined>;
  readonly cwd?: string;
  readonly stdio?: readonly ("pipe" | "ignore" | number)[];
}

export class Running implements AsyncDisposable {
  readonly #process: Bun.Subprocess;
  #log = "";
  #out = "";
  readonly #readers: { cancel(): Promise<void> }[] = [];
  readonly #reading: Promise<unknown>;
  /** Nothing more can come: neither it nor a child of it has the other end of a pipe. */
  #silent = false;

  constructor(command: readonly string[], options: Options = {}) {
    this.#process = Bun.spawn([...command], {
      // What is said to the tests alone is not for the programs under test.
      env: { ...process.env, SOCKETBOX_REQUIRE_ALL: undefined, PATH, ...options.env },
      cwd: options.cwd ?? ROOT,
      stdio: ["ignore", "pipe", "pipe", ...(options.stdio ?? [])] as never,
    });
    const { stdout, stderr } = this.#process;
    this.#reading = Promise.all([
      this.#read(stdout as ReadableStream, (text) => {
        this.#out += text;
      }),
      this.#read(stderr as ReadableStream),
    ]).then(() => {
      this.#silent = true;
    });
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Everything that it has written so far, both streams. */
  get log(): string {
    return this.#log;
  }

  /** What it has written to standard output alone: in the log, pieces of a line may lie apart. */
  get out(): string {
    return this.#out;
  }

  /** Waits for a match in the log. Throws with the log when it ends without one, or does not come. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = pattern.exec(this.#log);
      if (found) return found;
      if (!this.#silent && Date.now() < end) {
        await Bun.sleep(5);
        continue;
      }
      const late = pattern.exec(this.#log);
      if (late) return late;
      throw new Error(`no ${pattern} (exit code ${this.#process.exitCode}) in:\n${this.#log}`);
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Waits until it has ended by itself. What it has started may live on. */
  async ended(): Promise<number> {
    const code = await this.#process.exited;
    await this.#rest();
    return code;
  }

  /** SIGTERM, and the exit code. */
  async stop(): Promise<number> {
    if (this.#process.exitCode === null) this.#process.kill("SIGTERM");
    return this.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.kill("SIGKILL");
    await this.ended();
    for (const reader of this.#readers) await reader.cancel();
  }

  /**
   * Reads what is there; the end does not come while a child that lives on holds the other end of the pipe. Where we
   * were held up ourselves, the time is over before we have looked at the pipe: only a second time says something.
   */
  async #rest(): Promise<void> {
    for (let quiet = 0; quiet < 2 && !this.#silent; ) {
      const read = this.#log.length;
      await Promise.race([this.#reading, Bun.sleep(100)]);
      quiet = this.#log.length === read ? quiet + 1 : 0;
    }
  }

  async #read(stream: ReadableStream<Uint8Array>, keep: (text: string) => void = () => {}): Promise<void> {
    const decoder = new TextDecoder();
    const reader = stream.getReader();
    this.#readers.push(reader);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const text = decoder.decode(value, { stream: true });
      keep(text);
      this.#log += text;
    }
  }
}

/** Runs a command to its end. */
export async function run(
  command: readonly string[],
  options: Options = {},
): Promise<{ code: number; out: string }> {
  const running = new Running(command, options);
  const code = await running.ended();
  return { code, out: running.log };
}

/** The same, where anything but success is a fault of the test's surroundings. */
export async function must(command: readonly string[]): Promise<string> {
  const { code, out } = await run(command);
  if (code !== 0) throw new Error(`${command.join(" ")}: exit ${code}\n${out}`);
  return out;
}

/** Starts one of our programs and waits until it says that it is ready. */
export async function ready(name: string, args: readonly string[], options: Options = {}): Promise<Running> {
  const running = new Running([bin(name), ...args], options);
  await running.until(/: ready: /);
  return running;
}

/** What a server says to `text` (sent, then the sending side closed), until it closes. Throws on a reset. */
export function ask(port: number, hostname: string, text = ""): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let answer = "";
  Bun.connect({
    hostname,
    port,
    allowHalfOpen: true,
    socket: {
      open: (socket) => {
        if (text) socket.write(text);
        socket.shutdown();
      },
      data: (_, data) => {
        answer += data.toString();
      },
      end: (socket) => {
        socket.end();
        resolve(answer);
      },
      close: () => resolve(answer),
      error: (_, error) => reject(error),
      connectError: (_, error) => reject(error),
    },
  }).catch(reject);
  return promise;
}

/** Descriptors that a process has open. */
export function descriptors(pid: number | "self"): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** A file of /proc/PID/task/TID for every thread, in the order in which they were started. */
function threadFiles(pid: number, name: string): { tid: string; text: string }[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    try {
      return [{ tid, text: readFileSync(`/proc/${pid}/task/${tid}/${name}`, "utf8") }];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

/** One line of /proc/PID/task/TID/status for every thread: `Uid`, `NoNewPrivs` … */
export function threadStatus(pid: number, field: string): string[] {
  const line = new RegExp(`^${field}:[ \\t]*(.*?)[ \\t]*$`, "m");
  return threadFiles(pid, "status").map(({ text }) => line.exec(text)?.[1] ?? "");
}

/** The thread of a server's first acceptor: it is the first Worker that is started. */
export function acceptorThread(pid: number): string {
  return threadFiles(pid, "comm").find(({ text }) => text === "Worker\n")!.tid;
}
