/** Relays between ends that the tests hold. */
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { LISTENER_DEFAULTS } from "../../../src/config/configuration.ts";
import { bindListener, listen } from "../../../src/io/listener.ts";
import { parseAddress } from "../../../src/model/address.ts";
import { bin, freePort, type Options, ROOT, Running, until } from "../../kit/running.ts";

export interface Relayed extends AsyncDisposable {
  readonly relay: Running;
  /** Where it accepts on 127.0.0.1. */
  readonly port: number;
  /** Where its target is, or should be, on 127.0.0.1. */
  readonly target: number;
}

/** A relay that accepts on an inherited listener and connects to `target`, unless `args` say otherwise. */
export async function relayed(
  args: readonly string[] = [],
  { command = (words) => words, ...options }: Options & { command?: (words: string[]) => string[] } = {},
): Promise<Relayed> {
  const [port, target] = [await freePort(), await freePort()];
  const to = args.some((arg) => /^(-[cpu]|--to$)/.test(arg))
    ? []
    : ["-c", "::ffff:127.0.0.1", "-p", String(target)];
  const relay = await inherited(port, [...to, ...args], { command, ...options });
  return {
    relay,
    port,
    target,
    [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose](),
  };
}

/** The relay, ready, with a listener on 127.0.0.1 as its descriptor 3. */
export async function inherited(
  port: number,
  args: readonly string[],
  {
    command = (words: string[]) => words,
    ...options
  }: Options & { command?: (words: string[]) => string[] } = {},
): Promise<Running> {
  using listener = bindListener({ ...LISTENER_DEFAULTS, address: parseAddress("127.0.0.1")!, port });
  listen(listener, 4096);
  const words = command([bin("socketbox-relay"), "-l", "3", ...args]);
  const relay = new Running(words, { ...options, stdio: [listener.number] });
  await relay.until(/: ready: /);
  return relay;
}

/** The same from a TOML file, whose relays say `from = "fd:3"` and so on. */
export function fromFile(
  file: string,
  text: string,
  port: number,
  args: readonly string[] = [],
): Promise<Running> {
  writeFileSync(file, text);
  using listener = bindListener({ ...LISTENER_DEFAULTS, address: parseAddress("127.0.0.1")!, port });
  listen(listener, 4096);
  const relay = new Running([bin("socketbox-relay"), "--config", file, ...args], {
    stdio: [listener.number],
  });
  return relay.until(/: ready: /).then(() => relay);
}

/** Runs a case of ends.py to its end; what it prints. */
export async function ends(
  name: string,
  { port, target }: Pick<Relayed, "port" | "target">,
  ...more: readonly string[]
): Promise<string> {
  await using running = endsRunning(name, { port, target }, ...more);
  await running.ended();
  return running.log.trim();
}

export function endsRunning(
  name: string,
  { port, target }: Pick<Relayed, "port" | "target">,
  ...more: readonly string[]
): Running {
  return new Running([
    "python3",
    join(ROOT, "test/programs/relay/ends.py"),
    name,
    String(port),
    String(target),
    ...more,
  ]);
}

/** The log lines about connections, without time, ports of clients, and durations. */
export function lines(relay: Running): string[] {
  return relay.log
    .split("\n")
    .filter((line) => /^\d+ \[/.test(line))
    .map((line) =>
      line
        .replace(/^\d+ /, "")
        .replace(/^(\[[^\]]+\]):\d+/, "$1:C")
        .replace(/; \d+\.\d{3} s$/, ""),
    );
}

/** The end of a connection, as its log line has it behind `end: `. */
export function endings(relay: Running): string[] {
  return lines(relay).flatMap((line) => line.split(" end: ")[1] ?? []);
}

/** Waits until that many connections have ended, and says how. */
export async function ended(relay: Running, count: number): Promise<string[]> {
  await until(
    () => endings(relay).length >= count,
    () => `not ${count} ended connections in:\n${relay.log}`,
  );
  return endings(relay);
}

/** A target of one of the kinds in target.py, ready. */
export async function target(
  kind: "full" | "silent" | "whoami",
  where: number | string,
  command: (words: string[]) => string[] = (words) => words,
): Promise<Running> {
  const script = join(ROOT, "test/programs/relay/target.py");
  const running = new Running(command(["python3", script, kind, String(where)]));
  await running.until(/ready/);
  return running;
}

/** A target in this process that says its name to whoever comes, and closes when they have finished. */
export function named(name: string, port: number): Disposable & { open: number } {
  const server = {
    open: 0,
    [Symbol.dispose]: () => listener.stop(true),
  };
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        server.open++;
        socket.write(name);
      },
      data() {},
      end(socket) {
        socket.end();
      },
      close() {
        server.open--;
      },
    },
  });
  return server;
}

/** A client that stays: what it has heard so far, and how it ended. */
export class Client implements Disposable {
  connected = false;
  heard = "";
  /** `end`: the other side finished; `reset`: it did not. */
  ending: "end" | "reset" | undefined;
  readonly #socket: Socket;

  constructor(port: number, localAddress = "127.0.0.1") {
    this.#socket = connect({ host: "127.0.0.1", port, localAddress, allowHalfOpen: true });
    this.#socket.on("connect", () => {
      this.connected = true;
    });
    this.#socket.on("data", (data) => {
      this.heard += data.toString();
    });
    this.#socket.on("end", () => {
      this.ending ??= "end";
    });
    this.#socket.on("error", () => {
      this.ending = "reset";
    });
    this.#socket.on("close", (failed) => {
      this.ending = failed ? "reset" : (this.ending ?? "end");
    });
  }

  send(text: string | Uint8Array): void {
    this.#socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
  }

  /** Closes the sending half. */
  finish(): void {
    this.#socket.end();
  }

  /** Waits until it has heard that, or has ended. */
  async hears(text: string): Promise<void> {
    await until(
      () => this.heard === text,
      () => `heard ${JSON.stringify(this.heard)}, not ${text}`,
    );
  }

  async ends(): Promise<"end" | "reset"> {
    await until(
      () => this.ending !== undefined,
      () => "the connection goes on",
    );
    return this.ending!;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
