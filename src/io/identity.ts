/** Users, groups and privileges: looked up by name while names can be looked up, given up in one step. */
import { check, ERRNO, SysError } from "../native/errno.ts";
import { cString, native } from "../native/library.ts";
import { structs } from "../native/structs.ts";

/** What `-u -g -G -k -x` ask for, as they were written. */
export interface IdentityRequest {
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  /** Supplementary groups to keep. */
  readonly groups?: readonly string[] | undefined;
  readonly keepGroups?: boolean | undefined;
  readonly chroot?: string | undefined;
}

/** The same with numbers. */
export interface Identity {
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  readonly chroot?: string;
}

const FLAG = { uid: 1, gid: 2, groups: 4, capabilities: 8, confine: 16, keepNetAdmin: 32 } as const;
const GROUPS_MAX = 64;

/** enum sb_identity_step */
const STEPS = [
  "open /proc/self/task",
  "chroot",
  "set supplementary groups",
  "set group",
  "set user",
  "drop capabilities on every thread",
  "install the system call filter on every thread",
  "verify that every thread gave up its privileges",
] as const;

/**
 * Looks names up. A user brings its primary group unless `group` says otherwise, and whoever changes user or group
 * keeps no supplementary group but those named, unless `keepGroups`.
 */
export function resolveIdentity(request: IdentityRequest): Identity {
  const user = request.user === undefined ? undefined : lookUpUser(request.user);
  const gid = request.group === undefined ? user?.gid : lookUpGroup(request.group);
  const groups = request.keepGroups
    ? undefined
    : (request.groups?.map(lookUpGroup) ?? (gid !== undefined ? [] : undefined));
  if (groups && groups.length > GROUPS_MAX)
    throw new Unknown(`${groups.length} groups are too many; at most ${GROUPS_MAX}`);
  return {
    ...(user && { uid: user.uid }),
    ...(gid !== undefined && { gid }),
    ...(groups && { groups }),
    ...(request.chroot !== undefined && { chroot: request.chroot }),
  };
}

/**
 * Takes on the identity on every thread of this process, and reads back that each has it. With `confine` also
 * no_new_privs and the system call filter; with `keepNetAdmin` this thread keeps CAP_NET_ADMIN alone, to bind sockets
 * to addresses of others. Throws a SysError; the process must then end, for it is in between.
 */
export function assumeIdentity(
  identity: Identity,
  { confine, keepNetAdmin = false }: { confine: boolean; keepNetAdmin?: boolean },
): void {
  const { size, offsets } = structs.sb_identity;
  const record = new Uint32Array(size / 4);
  const groups = identity.groups ?? [];
  const staysRoot = (identity.uid ?? process.getuid?.()) === 0;
  record[offsets.flags / 4] =
    (identity.uid === undefined ? 0 : FLAG.uid) |
    (identity.gid === undefined ? 0 : FLAG.gid) |
    (identity.groups === undefined ? 0 : FLAG.groups) |
    // Root that stays root needs its capabilities to reach other users' receivers.
    (staysRoot ? 0 : FLAG.capabilities) |
    (confine ? FLAG.confine : 0) |
    (keepNetAdmin ? FLAG.keepNetAdmin : 0);
  record[offsets.uid / 4] = identity.uid ?? 0;
  record[offsets.gid / 4] = identity.gid ?? 0;
  record[offsets.group_count / 4] = groups.length;
  record.set(groups, offsets.groups / 4);
  const chroot = identity.chroot === undefined ? null : cString(identity.chroot);
  const result = native.sb_assume_identity(record, chroot);
  if (result >= 0) return;
  const step = STEPS[record[offsets.step / 4]!] ?? "change identity";
  throw new SysError(step === "chroot" ? `${step} to ${identity.chroot}` : step, -result);
}

/** A request that names what this system does not have; said as it is, for no system call has failed. */
class Unknown extends SysError {
  constructor(what: string) {
    super(what, ERRNO.ENOENT);
    this.message = what;
  }
}

/** Throws an Unknown. */
export function lookUpUser(name: string): { uid: number; gid: number } {
  const ids = new Uint32Array(2);
  const result = native.sb_lookup_user(cString(name), ids);
  if (result === -ERRNO.ENOENT) throw new Unknown(`there is no user ${JSON.stringify(name)}`);
  check(result, `look up user ${name}`);
  return { uid: ids[0]!, gid: ids[1]! };
}

/** Throws an Unknown. */
export function lookUpGroup(name: string): number {
  const ids = new Uint32Array(1);
  const result = native.sb_lookup_group(cString(name), ids);
  if (result === -ERRNO.ENOENT) throw new Unknown(`there is no group ${JSON.stringify(name)}`);
  check(result, `look up group ${name}`);
  return ids[0]!;
}
