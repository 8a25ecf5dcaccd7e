/** What an ELF file (elf(5)) says about the program in it, as far as a preload library must know it. */

export interface Elf {
  readonly bits: 32 | 64;
  /** EM_*, such as 62 for x86-64 and 183 for arm64. */
  readonly machine: number;
  /** The dynamic linker that it asks for; `undefined`: it is statically linked, or a library. */
  readonly interpreter: string | undefined;
  /** Made by the Go toolchain, whose programs make their system calls themselves. */
  readonly go: boolean;
}

/** `length` bytes from `offset` on; fewer at the end of the file. */
export type Reader = (offset: number, length: number) => Buffer;

const MAGIC = Buffer.from("\x7fELF", "latin1");
const HEADER = 64;
const PT_INTERP = 3;
const PT_NOTE = 4;
/** A header with more than that is none that a kernel would load. */
const MAX_SEGMENTS = 1000;
const MAX_SEGMENT_BYTES = 1 << 20;

/** `undefined`: it is no ELF file of little-endian numbers. */
export function readElf(reader: Reader): Elf | undefined {
  // An offset may be any number of 64 bits, and there is nothing so far behind the end of a file.
  const read: Reader = (offset, length) =>
    Number.isSafeInteger(offset) ? reader(offset, length) : Buffer.alloc(0);
  const head = read(0, HEADER);
  if (head.length < 52 || !head.subarray(0, 4).equals(MAGIC) || head[5] !== 1) return undefined;
  const bits = head[4] === 1 ? 32 : head[4] === 2 ? 64 : undefined;
  if (!bits || (bits === 64 && head.length < HEADER)) return undefined;
  const segments = [...segmentsOf(head, bits, read)];
  const interpreter = segments
    .find(({ type }) => type === PT_INTERP)
    ?.content()
    .toString("latin1");
  return {
    bits,
    machine: head.readUInt16LE(18),
    interpreter: interpreter?.split("\0")[0],
    go: segments.some(({ type, content }) => type === PT_NOTE && hasGoNote(content())),
  };
}

interface Segment {
  readonly type: number;
  content(): Buffer;
}

function* segmentsOf(head: Buffer, bits: 32 | 64, read: Reader): Generator<Segment> {
  const wide = bits === 64;
  const table = wide ? Number(head.readBigUInt64LE(32)) : head.readUInt32LE(28);
  const size = head.readUInt16LE(wide ? 54 : 42);
  const count = Math.min(head.readUInt16LE(wide ? 56 : 44), MAX_SEGMENTS);
  for (let i = 0; i < count; i++) {
    const entry = read(table + i * size, size);
    if (entry.length < (wide ? 56 : 32)) return;
    const offset = wide ? Number(entry.readBigUInt64LE(8)) : entry.readUInt32LE(4);
    const length = wide ? Number(entry.readBigUInt64LE(32)) : entry.readUInt32LE(16);
    yield {
      type: entry.readUInt32LE(0),
      content: () => read(offset, Math.min(length, MAX_SEGMENT_BYTES)),
    };
  }
}

/** A note is name size, content size, type, name, content, the last two padded to four bytes. Go's has type 4. */
function hasGoNote(notes: Buffer): boolean {
  for (let at = 0; at + 12 <= notes.length; ) {
    const [name, content] = [notes.readUInt32LE(at), notes.readUInt32LE(at + 4)];
    const type = notes.readUInt32LE(at + 8);
    if (type === 4 && notes.toString("latin1", at + 12, at + 12 + name) === "Go\0\0") return true;
    at += 12 + padded(name) + padded(content);
  }
  return false;
}

function padded(size: number): number {
  return Math.ceil(size / 4) * 4;
}
