/** The command lines, fuzzed in a process of its own: see command-lines.isolated.ts. */
import { expect, test } from "bun:test";
import { writeSync } from "node:fs";
import { join } from "node:path";

test("every command line is understood, or refused in one line", async () => {
  const file = join(import.meta.dir, "command-lines.isolated.ts");
  const child = Bun.spawn([process.execPath, "test", "--timeout", "600000", file], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if (process.env.SOCKETBOX_FUZZ_SECONDS) writeSync(1, out); // process.stdout would hold a descriptor of its own
  expect(`exit ${await child.exited}${child.exitCode ? `\n${err}` : ""}`).toBe("exit 0");
});
