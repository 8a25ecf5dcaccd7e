/** The C tests of cshim/test: the helper library under the sanitizers of addresses and behaviour. */
import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { testWith } from "../kit/require.ts";
import { ROOT, scratch } from "../kit/running.ts";
import { brokenPromises, compileSanitized, sanitizer } from "../preload/harness.ts";

const sources = join(ROOT, "cshim");
// What the helper shares with the preload library.
const shared = ["preload/decide.c", "preload/environment.c"];
const filesOf = (path: string) => readdirSync(path).filter((name) => name.endsWith(".c"));

for (const name of filesOf(join(sources, "test"))) {
  testWith(sanitizer("asan"))(`cshim/test/${name} keeps its promises`, () => {
    using folder = scratch();
    const inputs = [join("test", name), ...filesOf(sources), ...shared];
    compileSanitized(folder.file("program"), inputs, sources);
    expect(brokenPromises(folder.file("program"))).toEqual([]);
  });
}
