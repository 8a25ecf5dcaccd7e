/** The C tests of cshim/preload/test, each a program under the sanitizers of addresses and behaviour. */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { noCompiler, scratchFolder, sources } from "./harness.ts";

const folder = scratchFolder();
const filesOf = (path: string) => readdirSync(path).filter((name) => name.endsWith(".c"));

// Without the wrappers, which would stand between the sanitizers and libc.
const tested = filesOf(sources).filter((name) => name !== "wrappers.c");

function sanitizersMissing(): string | undefined {
  if (noCompiler) return noCompiler;
  const { stdout } = Bun.spawnSync(["gcc", "-print-file-name=libasan.so"]);
  return stdout.toString().startsWith("/") ? undefined : "gcc has no libasan";
}
const missing = sanitizersMissing();

for (const name of filesOf(join(sources, "test"))) {
  test.skipIf(missing !== undefined)(
    `cshim/preload/test/${name} keeps its promises${missing ? ` (skipped: ${missing})` : ""}`,
    () => {
      const program = join(folder, name.replace(".c", ""));
      const flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-D_DEFAULT_SOURCE", "-g", "-O1", "-pthread"];
      const sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
      const inputs = [join("test", name), ...tested];
      const built = Bun.spawnSync(["gcc", ...flags, ...sanitize, "-o", program, ...inputs, "-ldl"], {
        cwd: sources,
      });
      expect(built.stderr.toString()).toBe("");
      const { stdout, stderr, exitCode } = Bun.spawnSync([program]);
      const lines = stdout.toString().trimEnd().split("\n");
      expect(lines.filter((line) => !line.startsWith("ok - "))).toEqual([]);
      expect(stderr.toString()).toBe("");
      expect(exitCode).toBe(0);
    },
  );
}
