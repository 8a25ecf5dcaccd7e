/**
 * The preload library as a file that every program can load: the one beside us where that will do, or else a copy in
 * a folder that nobody but us can change.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  fchmodSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { compiled, preloadLibraries } from "../native/assets.ts";
import { errnoName } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import type { Libc } from "./executable.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** A path for LD_PRELOAD. Throws an Error that says what every place lacks. */
export function libraryFile(libc: Libc, env: Environment): string {
  const source = preloadLibraries[libc];
  if (!compiled && readableByPrograms(source)) return source;
  const content = readFileSync(source);
  const faults: string[] = [];
  for (const folder of candidates(env)) {
    try {
      return install(content, folder, libc);
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(`no place for the preload library: ${faults.join("; ")}`);
}

/**
 * A daemon may change its user and then execute itself again; the dynamic linker of that program opens the library
 * as that user. LD_PRELOAD is split at spaces and colons.
 */
function readableByPrograms(path: string): boolean {
  const open = (each: string, bit: number) => process.geteuid!() !== 0 || (statSync(each).mode & bit) !== 0;
  return !/[\s:]/.test(path) && open(path, 0o004) && ancestors(path).every((folder) => open(folder, 0o001));
}

/** Where a copy may lie, best first. Some of these are mounted noexec on some systems; then the next will do. */
function candidates(env: Environment): string[] {
  const uid = process.geteuid!();
  const own = [env.XDG_CACHE_HOME ?? (env.HOME && join(env.HOME, ".cache")), env.XDG_RUNTIME_DIR]
    .filter((folder) => folder?.startsWith("/"))
    .map((folder) => join(folder!, "socketbox"));
  return uid === 0
    ? ["/var/cache/socketbox", "/run/socketbox", "/var/lib/socketbox"]
    : [...own, `/tmp/socketbox-${uid}`];
}

/** Makes the copy under its content's name, unless it is there. Nobody ever sees half of it. */
function install(content: Buffer, folder: string, libc: Libc): string {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  if (lstatSync(folder).isSymbolicLink()) throw new Error(`${folder} is a symbolic link`);
  const real = realpathSync(folder);
  mustBeSafe(real, { sticky: false });
  for (const each of ancestors(real)) mustBeSafe(each, { sticky: true });
  if (process.geteuid!() === 0) chmodSync(real, 0o755); // whatever the umask was
  const digest = createHash("sha256").update(content).digest("hex").slice(0, 16);
  const path = join(real, `libsocketbox-preload-${libc}-${digest}.so`);
  if (/[\s:]/.test(path)) throw new Error(`${real} has a space or a colon in its name`);
  if (!isCopy(path, content)) write(path, content);
  const mappable = native.sb_can_map(cString(path));
  if (mappable < 0) throw new Error(`${real} does not do for programs: ${errnoName(-mappable)}`);
  return path;
}

/** Only root and we may be able to put something else there; in a sticky folder nobody moves what is ours. */
function mustBeSafe(folder: string, allowed: { sticky: boolean }): void {
  const info = lstatSync(folder);
  const sticky = allowed.sticky && (info.mode & 0o1000) !== 0;
  if (!info.isDirectory() || !isTrusted(info) || (info.mode & 0o022 && !sticky))
    throw new Error(`${folder} can be changed by others`);
}

function isTrusted({ uid }: Stats): boolean {
  return uid === 0 || uid === process.geteuid!();
}

function isCopy(path: string, content: Buffer): boolean {
  try {
    const info = lstatSync(path);
    return (
      info.isFile() && isTrusted(info) && (info.mode & 0o777) === 0o644 && readFileSync(path).equals(content)
    );
  } catch {
    return false;
  }
}

function write(path: string, content: Buffer): void {
  const temporary = `${path}.${randomBytes(8).toString("hex")}`;
  const fd = openSync(temporary, "wx", 0o644);
  try {
    fchmodSync(fd, 0o644);
    writeFileSync(fd, content);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [] : [parent, ...ancestors(parent)];
}
