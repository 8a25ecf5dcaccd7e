/**
 * `--takeover PATH`: a new server goes on where the running one is, without a moment in which nobody listens. The
 * running one listens at PATH (AF_UNIX, SOCK_SEQPACKET). Its successor asks three times, in JSON: for the `listeners`,
 * which both hold then; for the `rest`, when it is ready itself: from here on the old one takes nothing more in, and
 * sends what waits, and who has registered; and at last that it may `leave`. Each answer is one message for each
 * descriptor (SCM_RIGHTS), and one that says `end`. Whichever of the two fails before the last, the old one goes on;
 * where it is the old one that dies, its successor goes on with what has come.
 */
import type { ListenerSettings } from "../config/configuration.ts";
import { now } from "../io/clock.ts";
import type { Taken } from "../io/deliver.ts";
import { Fd } from "../io/fd.ts";
import { adoptListener } from "../io/listener.ts";
import { EVENT, type Watch } from "../io/reactor.ts";
import { SOCK } from "../io/socket.ts";
import { type BoundUnix, bindUnix } from "../io/unix.ts";
import { check, ERRNO, errnoName } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import type { ListenerNumbers } from "./configure.ts";
import type { Given } from "./given.ts";
import { EXIT, Failure, type Host } from "./host.ts";
import { type Listener, nextSourceId } from "./listeners.ts";
import type { Lookout } from "./lookout.ts";
import type { Registered } from "./registry.ts";

const VERSION = 1;
/** Only its owner, and root, may take over. */
const MODE = 0o600;
const MESSAGE_MAX = 65_536;
/** The longest that a successor waits for one message. */
const PATIENCE_MS = 10_000;
/** One who came while another was taking over is sent away, and comes to that one then. */
const ATTEMPTS = 5;
const AGAIN_MS = 100;
/** How long it may take the kernel to close all that a process had which has died. */
const DYING_MS = 1000;

/** How long one that has the listeners may take to be ready; others stand in line behind it. */
const PREPARING_MS = 30_000;
/** How long one that has been sent all may take to say so; for as long, nobody accepts. */
const SETTLING_MS = 3000;
/** shutdown(2): SHUT_RD */
const SHUT_READ = 0;

const GONE = "it has gone, or does not hand over";
const SILENT = "it does not answer";

type Question = { readonly ask: "listeners" | "rest" | "leave"; readonly version: number };

/** What a message says of the descriptor in it. */
type Item =
  | { readonly kind: "listener"; readonly id: number; readonly listener: Described }
  | { readonly kind: "registry"; readonly path: string }
  | { readonly kind: "takeover" }
  | { readonly kind: "mailbox" }
  /** The reading end of a pipe: while nobody but the old server has the other, its end is that server's. */
  | { readonly kind: "life" }
  | ({ readonly kind: "waiting" } & Waited)
  | { readonly kind: "registered"; readonly slot: number; readonly path: string }
  | { readonly kind: "end" };

interface Waited {
  readonly listener: string;
  readonly flow: readonly number[];
  /** For so many milliseconds. */
  readonly waitedMs: number;
  readonly headerless: boolean;
}

type Described = Pick<Listener, "ending" | "meant"> & {
  readonly settings: Omit<ListenerSettings, "address"> & { readonly address: readonly number[] };
};

/** A connection that waited, by the name of its listener. */
export type WaitingSocket = Omit<Taken, "listener"> & { readonly listener: string };

/** All that a server hands over. The descriptors stay its own; copies are sent. */
export interface Estate {
  /** From here on the successor has them, too. */
  listeners(): Promise<readonly Listener[]>;
  registries(): readonly { readonly path: string; readonly fd: number }[];
  readonly mailbox: number | undefined;
  /** Stops taking anything in; resolves to what waits, and who has registered. */
  release(): Promise<{
    readonly waiting: readonly WaitingSocket[];
    readonly registered: readonly Registered[];
  }>;
  /** The successor has gone, whatever it has got. */
  resume(): void;
  /** The successor has it all. */
  leave(): void;
}

/** What it listens on. It goes on listening too. */
export interface Found extends Given {
  readonly takeover: Fd | undefined;
  readonly mailbox: Fd | undefined;
}

/** The server that runs already, as its successor sees it. */
export class Predecessor implements Disposable {
  readonly #path: string;
  readonly #socket: Fd;
  /** Its end is the end of that server; absent where an older one has not given it. */
  #life: Fd | undefined;
  #died = false;

  /**
   * Nobody there: `undefined`. Throws a Failure when the one who is there is not ours: `uids` are whose it may be.
   */
  static find(path: string, uids: readonly number[]): Predecessor | undefined {
    for (let attempt = 1; ; attempt++) {
      const result = native.sb_connect_unix(cString(path), SOCK.seqpacket);
      if (result === -ERRNO.ENOENT || result === -ERRNO.ECONNREFUSED) return undefined;
      using socket = Fd.from(result, `take over from ${path}`);
      const uid = peerUid(socket.number);
      if (!uids.includes(uid)) throw refusal(path, `it belongs to uid ${uid}`);
      const predecessor = new Predecessor(path, new Fd(socket.take()));
      if (predecessor.#isMet() || attempt === ATTEMPTS) return predecessor;
      predecessor.#close();
      Bun.sleepSync(AGAIN_MS);
    }
  }

  private constructor(path: string, socket: Fd) {
    this.#path = path;
    this.#socket = socket;
  }

  /** Whether it has died meanwhile, so that we go on with what came. */
  get died(): boolean {
    return this.#died;
  }

  /** `undefined`: it has died, and whoever binds is the first. */
  listeners(): Found | undefined {
    const sockets = new Map<number, { listener: Described; fds: Fd[] }>();
    const registries = new Map<string, Fd>();
    using came = new DisposableStack();
    let takeover: Fd | undefined;
    let mailbox: Fd | undefined;
    for (const [item, fd] of this.#answer()) {
      if (item.kind === "life") {
        this.#life = fd;
        continue;
      }
      came.use(fd);
      if (item.kind === "listener") {
        const { fds } = sockets.getOrInsertComputed(item.id, () => ({ listener: item.listener, fds: [] }));
        fds.push(came.use(adoptListener(fd.take())));
      } else if (item.kind === "registry") registries.set(item.path, fd);
      else if (item.kind === "mailbox") mailbox = fd;
      else if (item.kind === "takeover") takeover = fd;
    }
    if (this.#died) return undefined;
    came.move();
    const listeners = [...sockets.values()].map(({ listener, fds }) => {
      const settings = { ...listener.settings, address: Uint8Array.from(listener.settings.address) };
      return { ...listener, id: nextSourceId(), settings, fds };
    });
    return { listeners, registries, registered: [], takeover, mailbox };
  }

  /** What waits there, and who has registered. From here on it takes nothing more in. */
  rest(): { waiting: WaitingSocket[]; registered: Registered[] } {
    const waiting: WaitingSocket[] = [];
    const registered: Registered[] = [];
    if (!this.#send("rest")) return { waiting, registered };
    for (const [item, fd] of this.#answer()) {
      if (item.kind === "waiting") waiting.push(waitingSocket(item, fd));
      else if (item.kind === "registered")
        registered.push({ slot: item.slot, path: item.path, fd: fd.take() });
    }
    return { waiting, registered };
  }

  /** We have it all: it may go. */
  leave(): void {
    this.#send("leave");
    this.#close();
  }

  /** Unless it was told to leave, it goes on as if we had not asked. */
  [Symbol.dispose](): void {
    this.#close();
  }

  #close(): void {
    this.#socket.close();
    this.#life?.close();
  }

  /** Asks for the listeners. Whether an answer begins to come. */
  #isMet(): boolean {
    const byte = new Uint8Array(1);
    if (!this.#write("listeners")) return false;
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; Bun.sleepSync(1)) {
      const length = native.sb_peek(this.#socket.number, byte, 1);
      if (length !== -ERRNO.EAGAIN) return length > 0;
    }
    throw refusal(this.#path, SILENT);
  }

  /** What it says to a question, until it has said all, or has died. */
  *#answer(): Generator<[Item, Fd]> {
    for (let received = this.#receive(); received; received = this.#receive()) {
      const [item, fd] = received;
      if (item.kind === "end") return;
      if (!fd) throw refusal(this.#path, "a message came without its descriptor");
      yield [item, fd];
    }
  }

  /** False: it has died. */
  #send(ask: Question["ask"]): boolean {
    return !this.#died && (this.#write(ask) || this.#hasGone());
  }

  #write(ask: Question["ask"]): boolean {
    const message = encode({ ask, version: VERSION });
    const result = native.sb_write(this.#socket.number, message, message.length);
    if (result === -ERRNO.EPIPE || result === -ERRNO.ECONNRESET) return false;
    check(result, `take over from ${this.#path}`);
    return true;
  }

  /** `undefined`: it has died. */
  #receive(): [Item, Fd | undefined] | undefined {
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; Bun.sleepSync(1)) {
      const received = receive<Item>(this.#socket.number);
      if (received === "gone") {
        this.#hasGone();
        return undefined;
      }
      if (received !== "nothing") return received;
    }
    throw refusal(this.#path, SILENT);
  }

  /** Goes on without one that has died. One that lives has had enough of us, and serves what we were to serve. */
  #hasGone(): false {
    const byte = new Uint8Array(1);
    for (const end = performance.now() + DYING_MS; performance.now() < end; Bun.sleepSync(1)) {
      if (!this.#life) break;
      this.#died = native.sb_read(this.#life.number, byte, 1) === 0;
      if (this.#died) return false;
    }
    throw refusal(this.#path, GONE);
  }
}

/** Waits at the path for who comes to take over from us. */
export class Succession {
  readonly #host: Host;
  readonly #lookout: Lookout;
  readonly #bound: BoundUnix;
  readonly #estate: Estate;
  readonly #life: { readonly reading: Fd; readonly writing: Fd };
  readonly #watch: Watch;
  /** They take over one after the other: one that has failed may not have been noticed yet. */
  #last: Promise<void> = Promise.resolve();
  #over = false;

  constructor(host: Host, lookout: Lookout, bound: BoundUnix, estate: Estate) {
    this.#host = host;
    this.#lookout = lookout;
    this.#bound = bound;
    this.#estate = estate;
    this.#life = makePipe();
    check(native.sb_listen(bound.fd.number, 1), "listen for a successor");
    this.#watch = lookout.watch(bound.fd.number, EVENT.in, () => this.#accept());
  }

  #accept(): void {
    const flow = new Int32Array(FLOW_WORDS);
    if (native.sb_accept(this.#bound.fd.number, flow, 1, 0) !== 1 || flow[FLOW_FD_WORD]! < 0) return;
    using client = new Fd(flow[FLOW_FD_WORD]!);
    check(native.sb_set_nonblocking(client.number, 1), "successor");
    const uid = peerUid(client.number);
    if (uid !== 0 && uid !== process.geteuid!()) {
      this.#host.log(`a takeover by uid ${uid} is refused`);
      return;
    }
    const next = new Fd(client.take());
    this.#last = this.#last.then(() => this.#handOver(next)).finally(() => next.close());
  }

  async #handOver(client: Fd): Promise<void> {
    if (this.#over) return; // who has taken over is at the path now
    let released = false;
    try {
      for (;;) {
        const question = await this.#question(client.number, released ? SETTLING_MS : PREPARING_MS);
        if (question?.version !== VERSION) break;
        if (question.ask === "leave") {
          this.#over = true;
          this.#watch.cancel();
          this.#estate.leave();
          return;
        }
        if (question.ask === "listeners") await this.#sendListeners(client.number);
        else {
          released = true;
          await this.#sendRest(client.number);
        }
      }
      this.#host.log("the successor has gone before it had all; going on");
    } catch (error) {
      this.#host.log(`the takeover failed; going on: ${(error as Error).message}`);
    }
    this.#estate.resume();
  }

  /** `undefined`: there will be none. */
  async #question(client: number, ms: number): Promise<Question | undefined> {
    for (;;) {
      // Late is late: what it says from here on it cannot send, so that never both of us go on.
      if (!(await this.#until(client, EVENT.in | EVENT.readHangup, ms)))
        native.sb_shutdown(client, SHUT_READ);
      const received = receive<Question>(client);
      if (received === "gone") return undefined;
      if (received === "nothing") continue;
      received[1]?.close();
      return received[0];
    }
  }

  async #sendListeners(client: number): Promise<void> {
    await this.#send(client, { kind: "life" }, this.#life.reading.number);
    for (const { id, settings, ending, meant, fds } of await this.#estate.listeners()) {
      const listener = { settings: { ...settings, address: [...settings.address] }, ending, meant };
      for (const fd of fds) await this.#send(client, { kind: "listener", id, listener }, fd.number);
    }
    for (const { path, fd } of this.#estate.registries())
      await this.#send(client, { kind: "registry", path }, fd);
    const { mailbox } = this.#estate;
    if (mailbox !== undefined) await this.#send(client, { kind: "mailbox" }, mailbox);
    await this.#send(client, { kind: "takeover" }, this.#bound.fd.number);
    await this.#send(client, { kind: "end" });
  }

  async #sendRest(client: number): Promise<void> {
    const { waiting, registered } = await this.#estate.release();
    for (const { flow, listener, since, headerless } of waiting) {
      const waitedMs = now() - since;
      const item: Item = { kind: "waiting", listener, flow: [...flow], waitedMs, headerless };
      await this.#send(client, item, flow[FLOW_FD_WORD]! | 0);
    }
    for (const { slot, path, fd } of registered)
      await this.#send(client, { kind: "registered", slot, path }, fd);
    await this.#send(client, { kind: "end" });
    this.#host.log(`handing over ${waiting.length} waiting connections, ${registered.length} registrations`);
  }

  /** A message with a copy of `fd`; waits while there is no room for it. */
  async #send(client: number, item: Item, fd?: number): Promise<void> {
    const message = encode(item);
    for (;;) {
      const result =
        fd === undefined ? native.sb_write(client, message, message.length) : sendCopy(client, fd, message);
      if (result !== -ERRNO.EAGAIN && result !== -ERRNO.ETOOMANYREFS) {
        check(result, "hand over");
        return;
      }
      if (result === -ERRNO.ETOOMANYREFS) await Bun.sleep(1);
      else if (!(await this.#until(client, EVENT.out, PATIENCE_MS)))
        throw new Error("the successor takes nothing");
    }
  }

  /** Whether it comes so far, within so many milliseconds. */
  #until(fd: number, events: number, ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (inTime: boolean) => {
        watch.cancel();
        clearTimeout(timer);
        resolve(inTime);
      };
      const watch = this.#lookout.watch(fd, events, () => end(true));
      const timer = setTimeout(() => end(false), ms);
    });
  }
}

/** Binds the path where successors come. */
export function bindTakeover(path: string): BoundUnix {
  return bindUnix(path, SOCK.seqpacket, MODE);
}

function makePipe(): { reading: Fd; writing: Fd } {
  const pipe = new Int32Array(3);
  check(native.sb_pipe(pipe, 0), "pipe");
  return { reading: new Fd(pipe[0]!), writing: new Fd(pipe[1]!) };
}

function sendCopy(client: number, fd: number, message: Uint8Array): number {
  const copy = native.sb_duplicate(fd);
  if (copy < 0) return copy;
  const result = native.sb_send_fds(client, Int32Array.of(copy), 1, message, message.length);
  if (result < 0) native.sb_close(copy);
  return result;
}

function receive<Message>(socket: number): [Message, Fd | undefined] | "gone" | "nothing" {
  const buffer = new Uint8Array(MESSAGE_MAX);
  const fd = Int32Array.of(-1);
  const length = native.sb_receive_message(socket, buffer, buffer.length, fd);
  if (length === -ERRNO.EAGAIN) return "nothing";
  if (length === 0 || length === -ERRNO.ECONNRESET) return "gone";
  if (length < 0) throw new Error(`receive: ${errnoName(-length)}`);
  const message = JSON.parse(new TextDecoder().decode(buffer.subarray(0, length))) as Message;
  return [message, fd[0]! < 0 ? undefined : new Fd(fd[0]!)];
}

function encode(message: Question | Item): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(message));
}

function peerUid(fd: number): number {
  const ids = new Int32Array(3);
  check(native.sb_peer(fd, ids), "SO_PEERCRED");
  return ids[1]! >>> 0;
}

function refusal(path: string, why: string): Failure {
  return new Failure(EXIT.refused, `cannot take over from the server at ${path}: ${why}`);
}

/** Waiting connections as the acceptors take them. */
export function adoptedOf(waiting: readonly WaitingSocket[], numbers: ListenerNumbers): Taken[] {
  return waiting.map((socket) => ({ ...socket, listener: numbers.of(socket.listener) }));
}

/** Its record comes along: a PROXY header may have named other ends than the socket has. */
function waitingSocket({ listener, flow: words, waitedMs, headerless }: Waited, fd: Fd): WaitingSocket {
  const flow = Uint32Array.from(words);
  flow[FLOW_FD_WORD] = fd.take();
  return { flow, listener, since: now() - waitedMs, headerless };
}
