/** The C tests of cshim/preload/test, each a program under the sanitizers of addresses and behaviour. */
import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { testWith } from "../kit/require.ts";
import { brokenPromises, compileSanitized, sanitizer, scratchFolder, sources } from "./harness.ts";

const folder = scratchFolder();
const filesOf = (path: string) => readdirSync(path).filter((name) => name.endsWith(".c"));

// Without the wrappers, which would stand between the sanitizers and libc.
const tested = filesOf(sources).filter((name) => name !== "wrappers.c");

for (const name of filesOf(join(sources, "test"))) {
  testWith(sanitizer("asan"))(`cshim/preload/test/${name} keeps its promises`, () => {
    const program = join(folder, name.replace(".c", ""));
    compileSanitized(program, [join("test", name), ...tested], sources);
    expect(brokenPromises(program)).toEqual([]);
  });
}
