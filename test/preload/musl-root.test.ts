/**
 * A daemon in a root that has musl and no glibc at all, behind the real server: the loader of Debian's package `musl`,
 * a daemon linked to it dynamically, and the library for musl. There is no network where the daemon runs, so that a
 * real bind would serve nobody; the server stands outside.
 */
import { expect } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { compileFor, HERE } from "../kit/builds.ts";
import { Namespace } from "../kit/namespace.ts";
import { type Need, root as privileged, program, testWith } from "../kit/require.ts";
import { bin, scratch } from "../kit/running.ts";
import { serveThrough } from "./daemons/server.ts";
import { library, mapOf, until } from "./harness.ts";

const LOADER = "/lib/ld-musl-x86_64.so.1";
const musl: Need = { name: "package musl", met: existsSync(LOADER) };
const inRoot = testWith(privileged, program("chroot"), program("unshare"), musl);

/** Fills a folder with the loader, the daemon, and the library for musl at this path. */
function makeRoot(root: string, libraryPath: string): void {
  for (const folder of ["lib", "bin", "run", dirname(libraryPath)])
    mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(realpathSync(LOADER), join(root, LOADER));
  copyFileSync(join(HERE, "libsocketbox-preload-musl.so"), join(root, libraryPath));
  compileFor("x86_64-linux-musl", join(root, "bin/daemon"), join(import.meta.dir, "daemons/server.c"));
}

for (const how of ["select", "poll", "epoll"]) {
  inRoot(`socketbox-preload chroot ROOT runs a daemon of musl that uses ${how}`, async () => {
    using place = scratch();
    makeRoot(place.path, library); // where the library for glibc is outside
    await using nowhere = await Namespace.isolated();
    const command = ["--map", "80=/run/web.sock", "chroot", place.path, "/bin/daemon", how];
    await using daemon = nowhere.start([bin("socketbox-preload"), ...command]);
    await serveThrough(place.file("run/web.sock"), daemon);
  });
}

inRoot("the loader of musl takes the library by itself, without a program of ours", async () => {
  using place = scratch();
  makeRoot(place.path, "/lib/preload.so");
  await using nowhere = await Namespace.isolated();
  const command = ["chroot", place.path, LOADER, "--preload", "/lib/preload.so", "/bin/daemon", "epoll"];
  const map = mapOf({ 80: "/run/web.sock" });
  await using daemon = nowhere.start(command, { env: { SOCKETBOX_MAP: map } });
  await serveThrough(place.file("run/web.sock"), daemon);
});

inRoot("a map that cannot be honoured is an error of bind there, too", async () => {
  using place = scratch();
  makeRoot(place.path, "/lib/preload.so");
  await using nowhere = await Namespace.isolated();
  const command = ["chroot", place.path, LOADER, "--preload", "/lib/preload.so", "/bin/daemon", "poll"];
  const env = { SOCKETBOX_MAP: mapOf({ 80: "/none/web.sock" }) };
  expect(await nowhere.run(command, { env })).toEqual({
    code: 1,
    out: "listen: No such file or directory\n",
  });
});

inRoot("a root that lacks the library runs nothing, unless --no-follow says that it may", async () => {
  using place = scratch();
  makeRoot(place.path, "/lib/preload.so");
  await using nowhere = await Namespace.isolated();
  const map = ["--map", "80=/run/web.sock"];
  const inside = ["chroot", place.path, "/bin/daemon", "poll"];
  const { code, out } = await nowhere.run([bin("socketbox-preload"), ...map, ...inside]);
  expect(code).toBe(126);
  expect(out).toStartWith(
    `socketbox-preload: /bin/daemon is not executed: it would run without ${realpathSync(library)}, `,
  );
  await using without = nowhere.start([bin("socketbox-preload"), ...map, "--no-follow", ...inside]);
  await until("it has bound for real", async () =>
    /:0050 /.test((await nowhere.run(["cat", "/proc/net/tcp6"])).out),
  );
  without.kill("SIGTERM");
  expect(await without.ended()).toBe(0);
});
