/** The kept inputs of the fuzzers in C, each run once under the sanitizers; .ci/fuzz makes new ones from them. */
import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { testWith } from "../kit/require.ts";
import { ROOT, scratch } from "../kit/running.ts";
import { compileSanitized, sanitizer } from "../preload/harness.ts";
import { CORPUS } from "./kit.ts";

const cFiles = (folder: string) => readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".c"));

interface Fuzzer {
  readonly corpus: string;
  readonly folder: string;
  readonly inputs: readonly string[];
}

const helper = [...cFiles("cshim"), "preload/decide.c", "preload/environment.c"];
// Without the wrappers, which would stand between the sanitizers and libc.
const preload = cFiles("cshim/preload").filter((name) => name !== "wrappers.c");

const fuzzers: Fuzzer[] = [
  ...cFiles("cshim/fuzz")
    .filter((name) => name !== "replay.c")
    .map((name) => ({
      corpus: name.replace(".c", ""),
      folder: "cshim",
      inputs: [join("fuzz", name), "fuzz/replay.c", ...helper],
    })),
  ...cFiles("cshim/preload/fuzz").map((name) => ({
    corpus: `preload-${name.replace(".c", "")}`,
    folder: "cshim/preload",
    inputs: [join("fuzz", name), "../fuzz/replay.c", ...preload],
  })),
];

for (const { corpus, folder, inputs } of fuzzers) {
  testWith(sanitizer("asan"))(`the kept inputs of ${corpus} break no promise`, () => {
    using work = scratch();
    const program = work.file("program");
    compileSanitized(program, inputs, join(ROOT, folder), "gnu11");
    const files = readdirSync(join(CORPUS, corpus)).map((name) => join(CORPUS, corpus, name));
    const { stdout, stderr, exitCode } = Bun.spawnSync([program, ...files]);
    expect(exitCode === 0 ? stdout.toString() : stderr.toString()).toBe(`ok - ${files.length} inputs\n`);
  });
}
