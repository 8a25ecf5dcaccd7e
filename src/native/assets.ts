/**
 * The one place that knows where the files lie that are not TypeScript modules of this thread: the helper library,
 * and the script of the acceptor's Worker. From a checkout or a package they are files beside us; in a compiled
 * executable they are embedded, and both names point into it.
 */
import { fileURLToPath } from "node:url";
import helper from "../../zig-out/lib/libsocketbox.so" with { type: "file" };

export const helperLibrary: string = helper;

const compiled = import.meta.url.includes("/$bunfs/");

/** bin/build names the same path as a second entry point, relative to the folder that holds src/. */
export const acceptorScript: string = compiled
  ? "/$bunfs/root/src/programs/acceptor.js"
  : fileURLToPath(new URL("../programs/acceptor.ts", import.meta.url));
