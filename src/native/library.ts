/** The helper library, loaded and proved: the rest of the program calls `native.sb_…` and nothing below. */
import { dlopen, FFIType } from "bun:ffi";
import { closeSync, readFileSync, writeSync } from "node:fs";
import { compiled, helperLibrary } from "./assets.ts";
import { structs } from "./structs.ts";
import { symbols } from "./symbols.ts";

export type Native = ReturnType<typeof load>;

function load(path: string) {
  const native = open(path);
  for (const [index, [name, { size }]] of Object.entries(structs).entries()) {
    const inC = native.sb_sizeof(index);
    if (inC !== size) throw new Error(`struct ${name} has ${inC} bytes in ${path} and ${size} in structs.ts`);
  }
  return native;
}

function open(path: string) {
  try {
    return dlopen(path, symbols).symbols;
  } catch (error) {
    throw new Error(`${path} is not the library of this version; in a checkout bin/bootstrap builds it`, {
      cause: error,
    });
  }
}

const MFD_CLOEXEC = 1;

/**
 * The library that is embedded in a compiled executable. Left to itself, Bun unpacks it below /tmp, where on many
 * servers nothing may be executed; memory has no such rule (memfd_create(2)).
 */
function loadEmbedded(path: string): Native {
  // Both C libraries answer to this name.
  const libc = dlopen("libc.so.6", {
    memfd_create: { args: [FFIType.cstring, FFIType.u32], returns: FFIType.i32 },
  });
  const fd = libc.symbols.memfd_create(cString("libsocketbox.so"), MFD_CLOEXEC);
  if (fd < 0) return load(path);
  writeSync(fd, readFileSync(path));
  const native = load(`/proc/self/fd/${fd}`);
  closeSync(fd);
  return native;
}

export const native: Native = compiled ? loadEmbedded(helperLibrary) : load(helperLibrary);

/** A C string: UTF-8 with its NUL. A NUL inside would silently cut it short. */
export function cString(text: string): Buffer {
  if (text.includes("\0")) throw new RangeError(`a NUL character in ${JSON.stringify(text)}`);
  if (text.isWellFormed()) return Buffer.from(`${text}\0`);
  const parts = `${text}\0`.split(/([\udc80-\udcff])/u);
  return Buffer.concat(
    parts.map((part, i) => (i % 2 ? Buffer.of(part.charCodeAt(0) & 0xff) : Buffer.from(part))),
  );
}

/**
 * The text of bytes that are not UTF-8: each byte that is not ASCII is a lone surrogate, U+DC80 to U+DCFF, and a
 * {@link cString} has it as that byte again.
 */
export function foreignText(bytes: Buffer): string {
  return bytes
    .toString("latin1")
    .replace(/[\x80-\xff]/g, (byte) => String.fromCharCode(0xdc00 + byte.charCodeAt(0)));
}
