/** The whole library, wrappers too, compiled into programs under sanitizers. */
import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { testWith } from "../kit/require.ts";
import {
  ask,
  askOften,
  compile,
  mapOf,
  Running,
  sanitizer as runtime,
  scratchFolder,
  sources,
  startSender,
} from "./harness.ts";

const folder = scratchFolder();

/** Compiles test program name together with the library, so that the program calls the wrappers. */
function build(name: string, sanitizer: string): string {
  const output = join(folder, `${name}-${sanitizer}`);
  const inputs = readdirSync(sources).filter((file) => file.endsWith(".c"));
  const flags = [
    "-std=gnu11",
    "-g",
    "-O1",
    "-pthread",
    `-fsanitize=${sanitizer}`,
    "-fno-sanitize-recover=all",
  ];
  const program = join(import.meta.dir, `${name}.c`);
  const built = Bun.spawnSync(["gcc", ...flags, "-o", output, program, ...inputs, "-ldl"], { cwd: sources });
  if (built.exitCode !== 0) throw new Error(built.stderr.toString());
  return output;
}

for (const [sanitizer, library] of [
  ["address,undefined", "asan"],
  ["thread", "tsan"],
] as const) {
  testWith(runtime(library))(`all questions are answered without a complaint of ${sanitizer}`, async () => {
    const path = join(folder, "differential.sock");
    await using sender = await startSender(compile("sender", folder), path);
    const env = { SOCKETBOX_MAP: mapOf({ 7800: path }), SOCKETBOX_FOLLOW: "0" };
    const argv = [build("differential", sanitizer), "6", "7800", `${sender.port}`];
    const child = Bun.spawn(argv, { env, stdout: "pipe", stderr: "pipe" });
    const [lines, complaints] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    expect(complaints).toBe("");
    expect(lines).toContain("bind a new socket there: 0");
    expect(await child.exited).toBe(0);
  });

  testWith(runtime(library))(`threads share a listener without a complaint of ${sanitizer}`, async () => {
    const path = join(folder, "stress.sock");
    await using sender = await startSender(compile("sender", folder), path);
    const env = { SOCKETBOX_MAP: mapOf({ 7801: path }) };
    const argv = [build("stress", sanitizer), "7801", "400"];
    await using running = new Running(argv, env, { stderr: "inherit" });
    const answers = await askOften(400, () => ask(sender.port, "::1", ""));
    expect(answers.filter((answer) => answer !== "hello\n")).toEqual([]);
    expect(await running.line()).toBe("answered 400");
    expect(await running.child.exited).toBe(0);
  });
}
