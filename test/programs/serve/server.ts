/** Servers under test, and what Python sees of the connections that they hand over. */
import type { Namespace } from "../../kit/namespace.ts";
import { python, pythonCommand, said } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { bin, type Options, type Running } from "../../kit/running.ts";

export const SOCKETBOX = bin("socketbox");

export const testPython = testWith(program("python3"));
export const testRoot = testWith(program("python3"), root);
export const testNamespace = testWith(program("python3"), program("nsenter"), program("ip"), root);

/** What a receiver sees of one connection (peer.py, `facts` and `serve`). */
export interface Seen {
  readonly payload: string;
  readonly descriptors: number;
  readonly local: readonly [string, number];
  readonly remote: readonly [string, number];
  readonly nonblocking: boolean;
  readonly transparent: number;
  readonly freebind: number;
  readonly reuse_address: number;
  readonly reuse_port: number;
}

/** A receiver at `path` that describes each connection, answers with `name`, and closes it. */
export async function receiver(path: string, name = "receiver"): Promise<Running> {
  const started = python("serve(sys.argv[1], sys.argv[2])", [path, name]);
  await started.until(/"ready"/);
  return started;
}

/** What the receiver has seen, once that is so many connections: its words may come after its answer. */
export async function seenBy(receiver: Running, count: number): Promise<Seen[]> {
  await receiver.until(new RegExp(`(?:"payload"[\\s\\S]*?){${count}}\\n`));
  return said<Seen>(receiver.out).filter((line) => line.payload !== undefined);
}

/** What is answered at that address from inside the namespace; `refused` when nobody is there. */
export async function askIn(host: Namespace, address: string, port: number): Promise<string> {
  const script = `
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) as client:
        print(read_all(client), end="")
except ConnectionRefusedError:
    print("refused", end="")`;
  return (await host.run(pythonCommand(script, address, port))).out;
}

export async function startIn(
  host: Namespace,
  words: readonly string[],
  options?: Options,
): Promise<Running> {
  const server = host.start([SOCKETBOX, ...words], options);
  await server.until(/: ready: /);
  return server;
}
