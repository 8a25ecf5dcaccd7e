/** Starting programs, as children or in our place, as if nothing of Bun had been there before. */
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
} from "node:fs";
import { check, ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { structs } from "../native/structs.ts";
import { Fd } from "./fd.ts";
import { signalName } from "./signals.ts";

/** waitid(2): CLD_EXITED. */
const CLD_EXITED = 1;

export interface Command {
  /** A path; see {@link findProgram}. */
  readonly program: string;
  /** argv, the program's own name first. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin?: number;
  readonly stdout?: number;
  readonly newSession?: boolean;
  /** The program, and whatever it starts, can gain no privilege by an exec (prctl(2), PR_SET_NO_NEW_PRIVS). */
  readonly noNewPrivs?: boolean;
}

/** What we were started with, before Bun raised the one and ignored two of the other (bin/launch notes both). */
export interface StartedWith {
  /** Soft RLIMIT_NOFILE; 0 where it is not known. */
  readonly nofile: number;
  /** Signals that were ignored, as a mask. */
  readonly ignored: bigint;
}

/** How a child ended: `exited 0`, `killed by SIGTERM`. */
export interface Ending {
  readonly exited: boolean;
  /** Exit status, or signal number. */
  readonly status: number;
}

export interface Child {
  readonly pid: number;
  /** Readable once the child has ended (pidfd_open(2)). */
  readonly pidfd: Fd;
}

/** SIGPIPE and SIGXFSZ, which Bun itself ignores. */
const IGNORED_BY_BUN = (1n << 12n) | (1n << 24n);

/**
 * Reads what bin/launch noted in SOCKETBOX_STARTED, as `LIMIT:HEX`. A compiled executable starts without it; then
 * only the two signals are known to be Bun's doing, and the limit is taken from our parent when its hard limit is
 * ours: a shell that lowered it is the usual case.
 */
export function startedWith(note: string | undefined): StartedWith {
  const noted = /^(\d+|unlimited):([0-9a-f]{16})$/.exec(note ?? "");
  if (noted) return { nofile: Number(noted[1]) || 0, ignored: BigInt(`0x${noted[2]}`) };
  const ignored = BigInt(
    `0x${/^SigIgn:\t([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0}`,
  );
  return { nofile: parentLimit(), ignored: ignored & ~IGNORED_BY_BUN };
}

/** `name` if it has a slash, else the first executable of that name on `path`. Throws a SysError. */
export function findProgram(name: string, path = "/usr/local/bin:/usr/bin:/bin"): string {
  const candidates =
    name === "" || name.includes("/") ? [name] : path.split(":").map((folder) => `${folder || "."}/${name}`);
  const found = candidates.find(isExecutable);
  if (found !== undefined) return found;
  throw new SysError(
    `find program ${name}`,
    candidates.some((path) => existsSync(path)) ? ERRNO.EACCES : ERRNO.ENOENT,
  );
}

/** Starts the command as a child. Throws a SysError when it cannot be started, a missing program included. */
export function spawn(command: Command, started: StartedWith): Child {
  const pidfd = new Int32Array(1);
  const { argv, env } = blocks(command);
  const record = childRecord(command, started);
  const { program } = command;
  const result = native.sb_spawn(
    cString(program),
    argv.block,
    argv.count,
    env.block,
    env.count,
    record,
    pidfd,
  );
  return { pid: check(result, `start ${program}`), pidfd: new Fd(pidfd[0]!) };
}

/** Becomes the command. Returns only by throwing a SysError. */
export function exec(command: Command, started: StartedWith): never {
  const { argv, env } = blocks(command);
  const record = childRecord(command, started);
  const { program } = command;
  const result = native.sb_exec(cString(program), argv.block, argv.count, env.block, env.count, record);
  throw new SysError(`start ${program}`, -result);
}

/**
 * The descriptors from 3 on that this process was started with. Bun has marked all but number 3 close-on-exec, so
 * whoever is to have them must be given them again ({@link passOn}). To be asked before we open any ourselves: what
 * Bun has open itself are anonymous inodes only (epoll, eventfd).
 */
export function inheritedFds(): number[] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => fd > 2 && isForeign(fd));
}

/** Lets the descriptors stay open across the next exec, in this process or a child. */
export function passOn(fds: readonly number[]): void {
  for (const fd of fds) check(native.sb_set_inheritable(fd, 1), `pass on descriptor ${fd}`);
}

/** Keeps the descriptors from children: Bun has left number 3 open to them, where systemd puts a socket. */
export function withhold(fds: readonly number[]): void {
  for (const fd of fds) check(native.sb_set_inheritable(fd, 0), `withhold descriptor ${fd}`);
}

/** How the child ended; `undefined` while it runs. */
export function reap(child: Child): Ending | undefined {
  const ending = new Int32Array(2);
  if (check(native.sb_wait(child.pidfd.number, ending), `wait for process ${child.pid}`) === 0)
    return undefined;
  return { exited: ending[0] === CLD_EXITED, status: ending[1]! };
}

export function formatEnding({ exited, status }: Ending): string {
  return exited ? `exited ${status}` : `killed by ${signalName(status)}`;
}

function childRecord(command: Command, started: StartedWith): Uint8Array {
  const { size, offsets } = structs.sb_child;
  const record = new DataView(new ArrayBuffer(size));
  record.setInt32(offsets.stdin_fd, command.stdin ?? -1, true);
  record.setInt32(offsets.stdout_fd, command.stdout ?? -1, true);
  record.setBigUint64(offsets.ignored_signals, started.ignored, true);
  record.setBigUint64(offsets.nofile, BigInt(started.nofile), true);
  record.setUint32(offsets.new_session, command.newSession ? 1 : 0, true);
  record.setUint32(offsets.no_new_privs, command.noNewPrivs ? 1 : 0, true);
  return new Uint8Array(record.buffer);
}

function blocks(command: Command) {
  const env = Object.entries(command.env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  return { argv: stringBlock(command.argv), env: stringBlock(env) };
}

function stringBlock(strings: readonly string[]): { block: Buffer; count: number } {
  // One NUL more keeps the block non-empty, so that it has an address even when there is no string.
  return { block: Buffer.concat([...strings.map(cString), Buffer.alloc(1)]), count: strings.length };
}

function isForeign(fd: number): boolean {
  try {
    return !/^(anon_inode:|\/proc\/)/.test(readlinkSync(`/proc/self/fd/${fd}`));
  } catch {
    return false; // the descriptor of the listing itself
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function parentLimit(): number {
  try {
    const [ours, parents] = ["self", process.ppid].map((pid) =>
      /^Max open files\s+(\d+)\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8")),
    );
    return ours && parents && ours[2] === parents[2] ? Number(parents[1]) : 0;
  } catch {
    return 0;
  }
}
