/** What the preload library makes of a bind, asked of its own code. */
import { type Address, isMapped } from "../model/address.ts";
import { check, ERRNO } from "./errno.ts";
import { cString, native } from "./library.ts";
import { structs } from "./structs.ts";

export type Decision =
  | { readonly outcome: "direct" }
  | { readonly outcome: "receiver" | "stream"; readonly path: string }
  | { readonly outcome: "linkLocal"; readonly scope: number }
  | { readonly outcome: "refused"; readonly errno: number };

/** In the order of `enum sb_outcome`. */
const OUTCOMES = ["direct", "receiver", "stream", "linkLocal", "refused"] as const;

/** A mapped address is bound by a socket of IPv4. A string: a variable cannot be read, and what it should hold. */
export function bindDecision(
  environment: Readonly<Record<string, string | undefined>>,
  { address, port, scope }: { address: Address; port: number; scope: number },
): Decision | string {
  const texts = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined ? [] : [cString(`${name}=${value}`)],
  );
  const { size, offsets } = structs.sb_decision;
  const record = Buffer.alloc(size);
  const block = Buffer.concat([...texts, Buffer.alloc(1)]);
  const inet6 = isMapped(address) ? 0 : 1;
  const status = native.sb_decide_bind(block, texts.length, address, inet6, scope, port, record);
  const text = record.toString("utf8", offsets.text, record.indexOf(0, offsets.text));
  if (status === -ERRNO.EINVAL) return text;
  check(status, "decide what a bind does");
  const outcome = OUTCOMES[record.readUInt32LE(offsets.outcome)]!;
  switch (outcome) {
    case "direct":
      return { outcome };
    case "linkLocal":
      return { outcome, scope: record.readUInt32LE(offsets.scope) };
    case "refused":
      return { outcome, errno: record.readUInt32LE(offsets.error) };
    default:
      return { outcome, path: text };
  }
}
