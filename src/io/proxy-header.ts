/** Taking a PROXY header off the front of a connection: exactly its bytes, and no byte of what follows. */
import { native } from "../native/library.ts";
import { type Decoded, decodeProxy, PROXY_HEADER_MAX } from "../wire/proxy.ts";

const bytes = new Uint8Array(PROXY_HEADER_MAX);

/**
 * Looks whether the connection begins with a header, and reads it if it does. Never waits; `gone`: the client has
 * finished or failed, and sent nothing.
 */
export function takeProxyHeader(fd: number): Decoded | { readonly kind: "gone" } {
  const count = native.sb_peek(fd, bytes, bytes.length);
  if (count === 0) return { kind: "gone" };
  // Nothing yet is as good as a header of which nothing is here; an error will be met again by whoever reads next.
  const decoded = decodeProxy(bytes.subarray(0, Math.max(0, count)));
  if (decoded.kind !== "header") return decoded;
  // The bytes are here, so that even a blocking socket gives them at once.
  const read = native.sb_read(fd, bytes, decoded.header.length);
  return read === decoded.header.length ? decoded : { kind: "gone" };
}
