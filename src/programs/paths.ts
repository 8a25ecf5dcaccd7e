/** Paths of Unix sockets, when they are no longer wanted. */
import type { BoundUnix } from "../io/unix.ts";
import { errnoName } from "../native/errno.ts";
import type { Host } from "./host.ts";

/** Takes the path away, or says why it stays: the rights to its folder may have gone with other privileges. */
export function removePath(
  host: Pick<Host, "log">,
  { path, remove }: Pick<BoundUnix, "path" | "remove">,
): void {
  const errno = remove();
  if (errno) host.log(`remove ${path}: ${errnoName(errno)}; whoever binds it next takes it over`);
}
