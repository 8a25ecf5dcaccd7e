/**
 * Registration, the server's side (wire/registration.ts): receivers connect, ask for a slot, and get that slot's
 * connections over the same socket. Decided here, in the control plane; the acceptors get a duplicate each of the
 * socket of whoever holds a slot.
 */
import type { Allowance, RegistrySettings } from "../config/configuration.ts";
import { Fd } from "../io/fd.ts";
import { lookUpGroup, lookUpUser } from "../io/identity.ts";
import { LimitedLog } from "../io/limited-log.ts";
import { EVENT, type Watch } from "../io/reactor.ts";
import { SOCK } from "../io/socket.ts";
import { type BoundUnix, bindUnix } from "../io/unix.ts";
import { check } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import { decodeRegistration, REGISTERED, REGISTRATION_BYTES } from "../wire/registration.ts";
import type { Host } from "./host.ts";
import type { Lookout } from "./lookout.ts";
import { removePath } from "./paths.ts";

/** How long a client may take to say what it wants. */
const PATIENCE_MS = 5000;
const BACKLOG = 64;

/** {@link Allowance} with numbers for the users. */
interface Rule {
  readonly slots: ReadonlySet<number>;
  readonly uids: ReadonlySet<number> | undefined;
  readonly takeover: boolean;
}

/** A bound socket, and who may register there. */
export interface Registry {
  readonly settings: RegistrySettings;
  readonly rules: readonly Rule[];
  readonly socket: BoundUnix;
}

/** A control connection: `slot` is there once it holds one. */
interface Client {
  readonly fd: Fd;
  readonly uid: number;
  readonly pid: number;
  /** Path of the registry that it came in by. */
  readonly path: string;
  slot: number | undefined;
  watch: Watch | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** A registration as another process may take it over. */
export interface Registered {
  readonly slot: number;
  readonly path: string;
  readonly fd: number;
}

/**
 * Binds it, not listening yet; `bound` is the socket where there is one already. Throws a SysError, also for a user
 * who does not exist.
 */
export function openRegistry(settings: RegistrySettings, bound?: BoundUnix): Registry {
  const { path, mode, owner, group } = settings;
  const rules = settings.allow.map(ruleOf);
  if (bound) return { settings, rules, socket: bound };
  const owned = owner !== undefined || group !== undefined;
  const uid = owner === undefined ? process.geteuid!() : lookUpUser(owner).uid;
  const gid = group === undefined ? process.getegid!() : lookUpGroup(group);
  return { settings, rules, socket: bindUnix(path, SOCK.seqpacket, mode, owned ? { uid, gid } : undefined) };
}

function ruleOf({ slots, users, takeover }: Allowance): Rule {
  const uids = users && new Set(users.map((user) => lookUpUser(user).uid));
  return { slots: new Set(slots), uids, takeover };
}

/** Who holds the slot from now on; nobody without `fd`, which stays the registrar's. `path`: of the registry. */
export type Hold = (slot: number, path: string, fd: number | undefined) => void;

export class Registrar {
  readonly #host: Host;
  readonly #log: LimitedLog;
  readonly #lookout: Lookout;
  readonly #hold: Hold;
  #registries: readonly Registry[] = [];
  readonly #watches = new Map<BoundUnix, Watch>();
  readonly #clients = new Set<Client>();
  readonly #holders = new Map<number, Client>();

  constructor(host: Host, lookout: Lookout, hold: Hold) {
    this.#host = host;
    this.#log = new LimitedLog(host.log, (ms, run) => void setTimeout(run, ms).unref());
    this.#lookout = lookout;
    this.#hold = hold;
  }

  get registries(): readonly Registry[] {
    return this.#registries;
  }

  get registered(): readonly Registered[] {
    return [...this.#holders].map(([slot, { fd, path }]) => ({ slot, path, fd: fd.number }));
  }

  /** Serves these from now on, and no others. Who has a slot keeps it while the registry still allows it. */
  serve(registries: readonly Registry[]): void {
    const sockets = new Set(registries.map(({ socket }) => socket));
    for (const { socket } of this.#registries) if (!sockets.has(socket)) this.#close(socket, true);
    this.#registries = registries;
    this.#open();
    for (const client of [...this.#holders.values()]) {
      if (!this.#ruleFor(client, client.slot!)) this.#end(client, "is no longer allowed");
    }
  }

  /** Goes on with a registration that another process, or this server before its restart, has granted. */
  adopt({ slot, path, fd }: Registered): void {
    const client = this.#meet(new Fd(fd), path);
    if (!client) return;
    if (this.#holders.has(slot) || !this.#ruleFor(client, slot))
      this.#end(client, `cannot keep slot ${slot}`);
    else this.#grant(client, slot);
  }

  /** Takes nobody new in, and hears nobody: another process may go on with it all. */
  pause(): void {
    for (const watch of this.#watches.values()) watch.cancel();
    this.#watches.clear();
    for (const client of this.#clients) client.watch?.cancel();
  }

  /** Undoes a pause. */
  resume(): void {
    this.#open();
    for (const client of this.#clients) this.#listenTo(client);
  }

  /** Lets everything go; the paths of the sockets too, unless somebody goes on with them. */
  close({ removePaths }: { removePaths: boolean }): void {
    for (const client of this.#clients) this.#forget(client);
    for (const { socket } of this.#registries) this.#close(socket, removePaths);
    this.#registries = [];
  }

  #open(): void {
    for (const { socket, settings } of this.#registries) {
      if (this.#watches.has(socket)) continue;
      const { path } = settings;
      check(native.sb_listen(socket.fd.number, BACKLOG), `listen on ${path}`);
      const watch = this.#lookout.watch(socket.fd.number, EVENT.in, () => this.#accept(path));
      this.#watches.set(socket, watch);
    }
  }

  #listenTo(client: Client): void {
    const events = EVENT.in | EVENT.readHangup;
    client.watch = this.#lookout.watch(client.fd.number, events, () => this.#hear(client));
  }

  #accept(path: string): void {
    const { socket, settings } = this.#at(path)!;
    const flow = new Int32Array(FLOW_WORDS);
    while (native.sb_accept(socket.fd.number, flow, 1, 0) === 1) {
      const fd = flow[FLOW_FD_WORD]!;
      if (fd < 0) continue;
      const client = this.#meet(new Fd(fd), path);
      if (!client) continue;
      const open = [...this.#clients].filter(({ uid }) => uid === client.uid).length;
      if (open > settings.perUser) {
        this.#end(client, `has ${settings.perUser} registrations already (per-user)`);
        continue;
      }
      client.timer = setTimeout(() => this.#end(client, "has not said what it wants"), PATIENCE_MS);
    }
  }

  #meet(fd: Fd, path: string): Client | undefined {
    const ids = new Int32Array(3);
    if (native.sb_peer(fd.number, ids) < 0 || native.sb_set_nonblocking(fd.number, 1) < 0) {
      fd.close();
      return undefined;
    }
    const [pid, uid] = [ids[0]!, ids[1]! >>> 0];
    const client: Client = { fd, pid, uid, path, slot: undefined, watch: undefined, timer: undefined };
    this.#listenTo(client);
    this.#clients.add(client);
    return client;
  }

  /** Its one request, or its end: whatever comes after the request ends the registration. */
  #hear(client: Client): void {
    // One byte more than a request has, so that a longer one is not taken for it.
    const message = new Uint8Array(REGISTRATION_BYTES + 1);
    const length = native.sb_read(client.fd.number, message, message.length);
    if (length <= 0) {
      this.#end(client, client.slot === undefined ? undefined : "has gone");
      return;
    }
    if (client.slot !== undefined) {
      this.#end(client, "sent something after its request");
      return;
    }
    const slot = decodeRegistration(message.subarray(0, length));
    if (slot === undefined) this.#end(client, "sent what is no registration");
    else this.#decide(client, slot);
  }

  #decide(client: Client, slot: number): void {
    const rule = this.#ruleFor(client, slot);
    if (!rule) {
      this.#end(client, `may not take slot ${slot}`);
      return;
    }
    const holder = this.#holders.get(slot);
    if (holder && !rule.takeover) {
      this.#end(client, `asks for slot ${slot}, which is taken`);
      return;
    }
    // Before the slot's first connection can come, the answer must be there.
    if (native.sb_write(client.fd.number, REGISTERED, REGISTERED.length) !== REGISTERED.length) {
      this.#end(client, "did not take the answer");
      return;
    }
    this.#grant(client, slot);
    if (holder) this.#end(holder, `hands slot ${slot} over`);
  }

  #grant(client: Client, slot: number): void {
    clearTimeout(client.timer);
    client.slot = slot;
    this.#holders.set(slot, client);
    this.#hold(slot, client.path, client.fd.number);
    this.#log.say(
      `registrations of uid ${client.uid} have slot ${slot}`,
      `${nameOf(client)} has slot ${slot}`,
    );
  }

  /** What the acceptors sent before stays in the client's queue, and it sees the end of file behind that. */
  #end(client: Client, why: string | undefined): void {
    if (why) this.#log.say(`registrations of uid ${client.uid}: ${why}`, `${nameOf(client)} ${why}`);
    this.#forget(client);
    const { slot } = client;
    if (slot === undefined || this.#holders.get(slot) !== client) return;
    this.#holders.delete(slot);
    this.#hold(slot, client.path, undefined);
  }

  #forget(client: Client): void {
    clearTimeout(client.timer);
    client.watch?.cancel();
    client.fd.close();
    this.#clients.delete(client);
  }

  /** The rule of its registry that lets the client have the slot. */
  #ruleFor({ path, uid }: Client, slot: number): Rule | undefined {
    return this.#at(path)?.rules.find(({ slots, uids }) => slots.has(slot) && (uids?.has(uid) ?? true));
  }

  #at(path: string): Registry | undefined {
    return this.#registries.find(({ settings }) => settings.path === path);
  }

  #close(socket: BoundUnix, removing: boolean): void {
    this.#watches.get(socket)?.cancel();
    this.#watches.delete(socket);
    if (removing) removePath(this.#host, socket);
    socket.fd.close();
  }
}

function nameOf({ pid, uid, slot }: Client): string {
  return `registration of process ${pid}, uid ${uid}${slot === undefined ? "" : `, slot ${slot}`}:`;
}
