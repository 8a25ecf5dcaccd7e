/**
 * The libraries for arm64 under qemu-user: their unit tests, and a daemon of each libc behind the real server, which runs on
 * this machine. qemu-user does not know SO_GET_FILTER: what a listener is stays in the process and its forked children.
 */
import { expect } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { builtFor, compileFor, objectsFor } from "../kit/builds.ts";
import { type Need, program, testWith } from "../kit/require.ts";
import { ROOT, Running, run, scratch } from "../kit/running.ts";
import { serveThrough } from "./daemons/server.ts";
import { mapOf } from "./harness.ts";

const SYSROOT = "/usr/aarch64-linux-gnu";
const GLIBC = "aarch64-linux-gnu.2.17";
const MUSL = "aarch64-linux-musl";
const libc6: Need = { name: "package libc6-arm64-cross", met: existsSync(join(SYSROOT, "lib/libc.so.6")) };
const emulated = testWith(program("qemu-aarch64"), libc6);
const emulator = ["qemu-aarch64", "-L", SYSROOT];

const filesOf = (folder: string) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith(".c"))
    .map((name) => join(ROOT, folder, name));

const preload = filesOf("cshim/preload").filter((path) => !path.endsWith("/wrappers.c"));
const pure = ["decide", "environment", "present"].map((name) => join(ROOT, `cshim/preload/${name}.c`));
const helper = [...filesOf("cshim"), ...pure.slice(0, 2)];

/** Tests, with the parts of the libraries that they are made of. */
const suites = [
  { target: GLIBC, tests: filesOf("cshim/preload/test"), parts: preload },
  { target: GLIBC, tests: filesOf("cshim/test"), parts: helper },
  // Debian has no loader of musl for arm64 on amd64. These are static, and so cannot look up what is wrapped.
  {
    target: MUSL,
    tests: ["decide", "present"].map((name) => join(ROOT, `cshim/preload/test/${name}.c`)),
    parts: pure,
  },
  { target: MUSL, tests: filesOf("cshim/test"), parts: helper },
];

for (const { target, tests, parts } of suites) {
  const names = tests.map((path) => path.slice(ROOT.length + 1)).join(", ");
  emulated(`${names} keep their promises on ${target}`, async () => {
    using place = scratch();
    const objects = objectsFor(target, place.file("objects"), parts);
    const linking = target === MUSL ? ["-static"] : [];
    for (const test of tests) {
      const output = compileFor(target, place.file("test"), test, ...objects, ...linking);
      const { code, out } = await run([...emulator, output, "emulated"]);
      const lines = out.trimEnd().split("\n");
      expect(lines.filter((line) => !line.startsWith("ok - "))).toEqual([]);
      expect(lines.length).toBeGreaterThan(4);
      expect(code).toBe(0);
    }
  });
}

const MUSL_ROOT = join(ROOT, ".toolchain/musl-arm64");
const loader: Need = {
  name: "musl for arm64 (.ci/musl-arm64)",
  met: existsSync(join(MUSL_ROOT, "lib/ld-musl-aarch64.so.1")),
};

for (const [libc, target, root, needs] of [
  ["glibc", GLIBC, SYSROOT, []],
  ["musl", MUSL, MUSL_ROOT, [loader]],
] as const)
  for (const how of ["select", "poll", "epoll"])
    testWith(
      program("qemu-aarch64"),
      libc6,
      ...needs,
    )(`a daemon of ${libc} for arm64 that uses ${how} serves 200 clients`, async () => {
      using place = scratch();
      const path = place.file("web.sock");
      const source = join(ROOT, "test/preload/daemons/server.c");
      const daemon = compileFor(target, place.file("daemon"), source);
      const variables = [
        `LD_PRELOAD=${join(builtFor(target), "libsocketbox-preload.so")}`,
        `SOCKETBOX_MAP=${mapOf({ 80: path })}`,
      ];
      const emulated = ["qemu-aarch64", "-L", root, ...variables.flatMap((one) => ["-E", one]), daemon, how];
      await using running = new Running(emulated);
      await serveThrough(path, running);
    });
