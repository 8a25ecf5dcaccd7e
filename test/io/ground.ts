/** What tests of deliveries stand on: a folder, a reactor, real connections, and mailboxes to look into. */
import { expect } from "bun:test";
import { Fd, liveFds } from "../../src/io/fd.ts";
import { ANYBODY } from "../../src/io/mailbox.ts";
import { Reactor } from "../../src/io/reactor.ts";
import { check } from "../../src/native/errno.ts";
import { native } from "../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { FLOW_WORDS, flowOf } from "../../src/routing/record.ts";
import { freePort, scratch } from "../kit/running.ts";
import { boundUnix, listenTcp } from "../kit/sockets.ts";

const LOCALHOST = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1);

/** A connection that has been accepted, and its client. */
export interface Pair {
  readonly flow: Uint32Array;
  readonly client: Fd;
  /** The client's port, by which it is known. */
  readonly id: number;
}

export class Ground implements Disposable {
  readonly #before = liveFds();
  readonly #stack = new DisposableStack();
  readonly #folder = this.#stack.use(scratch());
  readonly #port: number;
  readonly #listener: Fd;
  readonly reactor = this.#stack.use(new Reactor());

  static async lay(): Promise<Ground> {
    return new Ground(await freePort());
  }

  private constructor(port: number) {
    this.#port = port;
    this.#listener = this.#stack.use(listenTcp(port));
  }

  path(name: string): string {
    return this.#folder.file(name);
  }

  mailbox(name: string): Fd {
    return this.#stack.use(boundUnix(this.path(name)));
  }

  connection(): Pair {
    const connecting = native.sb_connect_inet(LOCALHOST, 0, this.#port, null, 0, -1);
    const client = this.#stack.use(Fd.from(connecting, "connect to the listener"));
    const flow = new Uint32Array(FLOW_WORDS);
    check(native.sb_accept(this.#listener.number, flow, 1, 0), "accept");
    return { flow, client, id: flowOf(flow, 0, 0).remotePort };
  }

  /** Calls it in the end, before what it needs goes. */
  defer(close: () => void): void {
    this.#stack.defer(close);
  }

  /** No descriptor is left over. */
  [Symbol.dispose](): void {
    this.#stack.dispose();
    expect(liveFds()).toBe(this.#before);
  }
}

/** Who lies in a mailbox; up to `most` of them are taken out. */
export function taken(mailbox: Fd, most = Number.POSITIVE_INFINITY): number[] {
  const flow = new Uint32Array(FLOW_WORDS);
  const ids: number[] = [];
  while (ids.length < most && native.sb_receive_fds(mailbox.number, flow, 1, 2, ANYBODY, null) === 1) {
    ids.push(flowOf(flow, 0, 0).remotePort);
    native.sb_close(flow[FLOW_FD_WORD]! | 0);
  }
  return ids;
}
