/** What a path of a Unix socket must be like, in either language. */
import { hasBraces, longestPath, UNIX_PATH_MAX } from "../model/target.ts";
import { Fault, quoted } from "./fault.ts";
import { controlFault } from "./words.ts";

/** Neither from the root nor, with an `@`, in the abstract namespace. */
export function isRelative(path: string): boolean {
  return !/^[/@]/.test(path);
}

/** What keeps `path`, taken as it stands, from being one for `sockaddr_un` (unix(7)). */
export function pathFault(path: string): Fault | undefined {
  return characterFault(path) ?? lengthFault(path, Buffer.byteLength(path), "has");
}

/** The same for a path whose `{…}` each flow fills in. */
export function templateFault(path: string): Fault | undefined {
  const unknown = path.match(/\{[^{}]*\}?|\}/g)?.find((piece) => !hasBraces(piece));
  if (unknown !== undefined) {
    return new Fault(
      `path ${quoted(path)} has ${quoted(unknown)}`,
      "{port}, {local} or {group0} to {group7}",
    );
  }
  return characterFault(path) ?? lengthFault(path, longestPath(path), "can be filled in to");
}

function characterFault(path: string): Fault | undefined {
  if (path === "" || path === "@") return new Fault(`path ${quoted(path)} names nothing`, "/path or @name");
  return controlFault("path", path);
}

function lengthFault(path: string, length: number, verb: string): Fault | undefined {
  if (length <= UNIX_PATH_MAX) return undefined;
  return new Fault(`path ${quoted(path)} ${verb} ${length} bytes`, `at most ${UNIX_PATH_MAX}`);
}
