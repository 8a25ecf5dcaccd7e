/** What the libraries ask of the system they are loaded on: an old glibc or musl, and nothing else. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { builtFor, HERE } from "../kit/builds.ts";
import { program, testWith } from "../kit/require.ts";
import { ROOT } from "../kit/running.ts";

const OLDEST_GLIBC = "GLIBC_2.17";
const ELSEWHERE = ["x86_64-linux-gnu.2.17", "aarch64-linux-gnu.2.17"];

/** The names that wrappers.c defines. */
const wrapped = [
  ...readFileSync(join(ROOT, "cshim/preload/wrappers.c"), "utf8").matchAll(/^WRAPPER\([\w *]+,\s+(\w+)/gm),
].map((match) => match[1]!);

function readelf(...args: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["readelf", "-W", ...args]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  return stdout.toString();
}

/** Versions that a library needs of its own kind of libc: `GLIBC_2.14` and the like. */
const versionsNeeded = (file: string) => [
  ...new Set([...readelf("-V", file).matchAll(/Name: (\S+) {2}Flags/g)].map((match) => match[1]!)),
];

const neededBy = (file: string) =>
  [...readelf("-d", file).matchAll(/NEEDED.*\[(.*)\]/g)].map((match) => match[1]!).sort();

/** Names that others can see, or that others must have. */
function symbolsOf(file: string, defined: boolean): string[] {
  const rows = readelf("--dyn-syms", file)
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  return rows
    .filter(
      ([, , , , bind, , section]) => /^(GLOBAL|WEAK)$/.test(bind ?? "") && (section !== "UND") === defined,
    )
    .map((row) => row[7]!.replace(/@.*/, ""))
    .sort();
}

const exportsOf = (file: string) => symbolsOf(file, true);
const importsOf = (file: string) => symbolsOf(file, false);

/** Is a version of glibc no newer than the oldest one that is promised? */
const oldEnough = (version: string) =>
  version.startsWith("GLIBC_") && Bun.semver.order(padded(version), padded(OLDEST_GLIBC)) <= 0;
const padded = (version: string) => [...version.slice("GLIBC_".length).split("."), "0"].slice(0, 3).join(".");

/** What may allocate, or wait for a lock: a child forked at a bad moment, or a signal handler, would hang in it. */
const UNSAFE =
  /^(malloc|calloc|realloc|free|opendir|readdir|fopen\w*|f?printf|pthread_\w+|syslog|getaddrinfo|getenv)$/;

function expectGoodManners(file: string): void {
  expect(importsOf(file).length).toBeGreaterThan(20);
  expect(importsOf(file).filter((name) => UNSAFE.test(name))).toEqual([]);
  expect(exportsOf(file)).toEqual(wrapped.toSorted());
  expect(readelf("-l", file)).toContain("GNU_RELRO");
  expect(readelf("-d", file)).toMatch(/FLAGS\).* BIND_NOW/);
  expect(readelf("-d", file)).not.toContain("TEXTREL");
  expect(readelf("-l", file)).toMatch(/GNU_STACK .* RW {2}/); // no executable stack
}

const withReadelf = testWith(program("readelf"));

test("the list of exported names is the wrappers, each once", () => {
  const script = readFileSync(join(ROOT, "cshim/preload/exports.map"), "utf8");
  const listed = [...script.matchAll(/^ {8}(\w+);/gm)].map((match) => match[1]!);
  expect(listed).toEqual(wrapped.toSorted());
});

for (const target of ["this machine", ...ELSEWHERE]) {
  const folder = () => (target === "this machine" ? HERE : builtFor(target));

  withReadelf(`the preload library for ${target} asks for glibc 2.17, libdl, and nothing else`, () => {
    const file = join(folder(), "libsocketbox-preload.so");
    expectGoodManners(file);
    expect(neededBy(file)).toEqual(["libc.so.6", "libdl.so.2"]);
    const versions = versionsNeeded(file);
    expect(versions.length).toBeGreaterThan(0);
    expect(versions.filter((version) => !oldEnough(version))).toEqual([]);
  });

  withReadelf(`the preload library for musl on ${target} asks for musl and nothing else`, () => {
    const file = join(folder(), "libsocketbox-preload-musl.so");
    expectGoodManners(file);
    expect(neededBy(file)).toEqual(["libc.so"]);
    expect(versionsNeeded(file)).toEqual([]);
  });

  withReadelf(`the helper library for ${target} asks for glibc 2.17, its threads, and nothing else`, () => {
    const file = join(folder(), "libsocketbox.so");
    expect(exportsOf(file).filter((name) => !name.startsWith("sb_"))).toEqual([]);
    expect(neededBy(file)).toEqual(["libc.so.6", "libpthread.so.0"]);
    expect(versionsNeeded(file).filter((version) => !oldEnough(version))).toEqual([]);
  });
}
