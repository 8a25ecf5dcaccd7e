/** The structs of cshim/socketbox.h as data. Offsets and sizes follow from the fields, by the C rules of alignment. */

const FIELD_BYTES = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 } as const;

export type FieldType = keyof typeof FIELD_BYTES;

/** Name, type, and how many of it (1 unless given). */
type Field = readonly [name: string, type: FieldType, count?: number];

export interface Layout<Name extends string = string> {
  readonly size: number;
  readonly offsets: Readonly<Record<Name, number>>;
}

function layout<const F extends readonly Field[]>(...fields: F): Layout<F[number][0]> {
  const offsets: Record<string, number> = {};
  let end = 0;
  let alignment = 1;
  for (const [name, type, count = 1] of fields) {
    const bytes = FIELD_BYTES[type];
    end = Math.ceil(end / bytes) * bytes;
    offsets[name] = end;
    end += bytes * count;
    alignment = Math.max(alignment, bytes);
  }
  return { size: Math.ceil(end / alignment) * alignment, offsets: offsets as Record<F[number][0], number> };
}

/** `struct sb_way`, as part of a `struct sb_relay`. */
function wayFields<const Name extends string>(name: Name) {
  return [
    [`${name}_from`, "i32"],
    [`${name}_to`, "i32"],
    [`${name}_pipe`, "i32", 3],
    [`${name}_held`, "u32"],
    [`${name}_urgent`, "i32"],
    [`${name}_state`, "u32"],
    [`${name}_blocked`, "u32"],
    [`${name}_seen`, "u32"],
    [`${name}_large`, "u32"],
    [`${name}_moved`, "u64"],
  ] as const;
}

/** In the order of `enum sb_struct`; library.ts compares each size with the C compiler's at load. */
export const structs = {
  sb_flow: layout(
    ["local", "u8", 16],
    ["remote", "u8", 16],
    ["local_port", "u16"],
    ["remote_port", "u16"],
    ["fd", "i32"],
  ),
  sb_event: layout(["events", "u32"], ["fd", "i32"], ["generation", "u32"]),
  sb_identity: layout(
    ["flags", "u32"],
    ["uid", "u32"],
    ["gid", "u32"],
    ["group_count", "u32"],
    ["groups", "u32", 64],
    ["step", "u32"],
  ),
  sb_child: layout(
    ["stdin_fd", "i32"],
    ["stdout_fd", "i32"],
    ["ignored_signals", "u64"],
    ["nofile", "u64"],
    ["new_session", "u32"],
    ["no_new_privs", "u32"],
  ),
  sb_decision: layout(["outcome", "u32"], ["error", "u32"], ["scope", "u32"], ["text", "u8", 256]),
  sb_relay: layout(
    ...wayFields("up"),
    ...wayFields("down"),
    ["error", "i32"],
    ["culprit", "i32"],
    ["stage", "u32"],
    ["told", "u32"],
  ),
  sb_pipes: layout(["count", "i32"], ["open", "i32"], ["limit", "i32"], ["idle", "i32", 64 * 3]),
  sb_answer: layout(
    ["token", "u32"],
    ["family", "i32"],
    ["count", "u32"],
    ["addresses", "u8", 16 * 16],
    ["scopes", "u32", 16],
  ),
} as const;

/** Word of a flow record (routing/record.ts) that holds its descriptor, and words of an event. */
export const FLOW_FD_WORD = structs.sb_flow.offsets.fd / 4;
export const EVENT_WORDS = structs.sb_event.size / 4;
