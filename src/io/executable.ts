/** What becomes of a program under a preload library, found out before it is started. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { check } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { type Elf, readElf } from "../wire/elf.ts";
import { findProgram } from "./spawn.ts";

/** The C library that a program runs on, by the dynamic linker that it asks for. */
export type Libc = "glibc" | "musl";

/** The executable that the kernel will load in the end, or why the library would not be in it. */
export type Loaded =
  | { readonly path: string; readonly libc: Libc }
  | { readonly path: string; readonly refusal: string };

/** The kernel follows as many interpreters of interpreters (binfmt_script, BINPRM_MAX_RECURSION). */
const MAX_SCRIPTS = 5;
/** The longest first line that the kernel reads (BINPRM_BUF_SIZE). */
const LINE_BYTES = 256;

/** Follows scripts to their interpreter, and `env` to what it starts. Throws a SysError where a file is not there. */
export function examine(program: string, library: Elf, searchPath: string | undefined): Loaded {
  let path = program;
  for (let scripts = 0; scripts <= MAX_SCRIPTS; scripts++) {
    using file = new OpenFile(path);
    const elf = readElf((offset, length) => file.read(offset, length));
    if (elf) return judge(path, elf, library);
    const words = interpreterOf(file.read(0, LINE_BYTES));
    if (!words) return { path, refusal: "is neither an ELF program nor a script that names its interpreter" };
    const [interpreter, argument] = words;
    if (!/\/env$/.test(interpreter) || !argument || /[\s=]/.test(argument) || argument.startsWith("-")) {
      path = interpreter;
      continue;
    }
    const env = examine(interpreter, library, searchPath);
    if ("refusal" in env) return env;
    path = findProgram(argument, searchPath);
  }
  return { path: program, refusal: `is a script of a script, and so on, more than ${MAX_SCRIPTS} deep` };
}

/** The same of a file that only Bun can open, such as one inside a compiled executable. */
export function elfOf(path: string): Elf | undefined {
  const content = readFileSync(path);
  return readElf((offset, length) => content.subarray(offset, offset + length));
}

function judge(path: string, elf: Elf, library: Elf): Loaded {
  const refuse = (refusal: string): Loaded => ({ path, refusal });
  if (elf.bits !== library.bits)
    return refuse(`is a program of ${elf.bits} bits; the library has ${library.bits}`);
  if (elf.machine !== library.machine) return refuse("is a program for another kind of processor");
  if (elf.interpreter === undefined)
    return refuse("is statically linked: there is no dynamic linker that would load the library");
  if (elf.go)
    return refuse("is a Go program, which makes its system calls itself: the library would not see them");
  const secure = secureReason(path);
  if (secure) return refuse(`${secure}: the dynamic linker would leave the library out`);
  const libc = libcOf(elf.interpreter);
  return libc
    ? { path, libc }
    : refuse(`runs on ${elf.interpreter}, which is neither glibc's nor musl's dynamic linker`);
}

function libcOf(interpreter: string): Libc | undefined {
  const name = interpreter.slice(interpreter.lastIndexOf("/") + 1);
  if (/^ld-musl-[\w-]+\.so\.1$/.test(name)) return "musl";
  return /^ld-linux[\w-]*\.so\.\d+$/.test(name) ? "glibc" : undefined;
}

/** Why the kernel would tell the dynamic linker to trust nothing of ours (AT_SECURE, ld.so(8)). */
function secureReason(path: string): string | undefined {
  const { mode, uid, gid } = statSync(path);
  if (mode & 0o4000 && uid !== process.geteuid!()) return "is set-uid";
  if (mode & 0o2000 && mode & 0o010 && gid !== process.getegid!()) return "is set-gid";
  const capabilities = check(native.sb_has_file_capabilities(cString(path)), `capabilities of ${path}`);
  return capabilities && process.getuid!() !== 0 ? "has file capabilities" : undefined;
}

/** `#!INTERPRETER [ARGUMENT]`, as the kernel splits it. */
function interpreterOf(head: Buffer): [string, string | undefined] | undefined {
  if (head.toString("latin1", 0, 2) !== "#!") return undefined;
  const end = head.indexOf("\n");
  const line = head.toString("utf8", 2, end < 0 ? head.length : end).trim();
  const found = /^(\S+)(?:\s+(.*))?$/.exec(line);
  return found ? [found[1]!, found[2]] : undefined;
}

class OpenFile implements Disposable {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  read(offset: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, readSync(this.#fd, buffer, 0, length, offset));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
