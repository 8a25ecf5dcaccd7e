/** A configuration's bytes: UTF-8, or told where they are not. */
import type { Diagnostic } from "../model/diagnostic.ts";

const LF = 0x0a;

/** The text; a byte order mark stays in it. */
export function decodeUtf8(file: string, bytes: Uint8Array): string | Diagnostic {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const at = firstBadByte(bytes);
    const start = bytes.lastIndexOf(LF, at - 1) + 1;
    const line = 1 + bytes.subarray(0, start).reduce((count, byte) => count + Number(byte === LF), 0);
    const column = 1 + lenient(bytes.subarray(start, at)).length;
    const what = `the byte 0x${bytes[at]!.toString(16)} is not UTF-8`;
    return { severity: "error", place: { file, line, column }, what, expected: "UTF-8 text" };
  }
}

/** Of the first sequence that is wrong; there must be one. */
function firstBadByte(bytes: Uint8Array): number {
  const text = lenient(bytes);
  // U+FFFD stands for bytes that are wrong, unless it was written itself. All before the first that was not is right.
  let at = 0;
  for (const [index, piece] of text.split("\ufffd").entries()) {
    if (index > 0) {
      const isWritten = bytes[at] === 0xef && bytes[at + 1] === 0xbf && bytes[at + 2] === 0xbd;
      if (!isWritten) return at;
      at += 3;
    }
    at += Buffer.byteLength(piece);
  }
  throw new RangeError("all bytes are UTF-8");
}

function lenient(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}
