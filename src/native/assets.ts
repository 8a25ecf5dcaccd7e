/**
 * The one place that knows where the files lie that are not TypeScript modules of this thread: the libraries, and the
 * script of the acceptor's Worker. From a checkout or a package they are files beside us; in a compiled executable
 * they are embedded, and their names point into it, where only Bun can read.
 */
import { fileURLToPath } from "node:url";
import helper from "../../zig-out/lib/libsocketbox.so" with { type: "file" };
import glibcPreload from "../../zig-out/lib/libsocketbox-preload.so" with { type: "file" };
import muslPreload from "../../zig-out/lib/libsocketbox-preload-musl.so" with { type: "file" };

export const helperLibrary: string = helper;

/** The preload library for programs of each C library. */
export const preloadLibraries: Readonly<Record<"glibc" | "musl", string>> = {
  glibc: glibcPreload,
  musl: muslPreload,
};

/** Whether this is a compiled executable. */
export const compiled: boolean = import.meta.url.includes("/$bunfs/");

/** bin/build names the same paths as further entry points, relative to the folder that holds src/. */
export const acceptorScript: string = script("acceptor");
export const lookoutScript: string = script("lookout-thread");

function script(name: string): string {
  if (compiled) return `/$bunfs/root/src/programs/${name}.js`;
  return fileURLToPath(new URL(`../programs/${name}.ts`, import.meta.url));
}
