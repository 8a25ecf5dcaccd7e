/** The helper library, loaded and proved: the rest of the program calls `native.sb_…` and nothing below. */
import { dlopen } from "bun:ffi";
import { helperLibrary } from "./assets.ts";
import { structs } from "./structs.ts";
import { symbols } from "./symbols.ts";

export type Native = ReturnType<typeof load>;

function load(path: string) {
  const native = dlopen(path, symbols).symbols;
  for (const [index, [name, { size }]] of Object.entries(structs).entries()) {
    const inC = native.sb_sizeof(index);
    if (inC !== size) throw new Error(`struct ${name} has ${inC} bytes in ${path} and ${size} in structs.ts`);
  }
  return native;
}

export const native: Native = load(helperLibrary);

/** A C string: UTF-8 with its NUL. A NUL inside would silently cut it short. */
export function cString(text: string): Buffer {
  if (text.includes("\0")) throw new RangeError(`a NUL character in ${JSON.stringify(text)}`);
  return Buffer.from(`${text}\0`);
}
