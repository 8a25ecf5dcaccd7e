/** The libraries as they are built for another machine or libc, made by build.zig when they are first needed. */
import { join } from "node:path";
import { ROOT } from "./running.ts";

export const ZIG = join(ROOT, ".toolchain/bin/zig");

/** What `zig build` without options makes for this machine. */
export const HERE = join(ROOT, "zig-out/lib");

/** The folder of the libraries for a target of Zig, `aarch64-linux-musl` say. Takes no time when nothing has changed. */
export function builtFor(target: string): string {
  const prefix = join(ROOT, ".toolchain/built", target);
  const built = Bun.spawnSync([ZIG, "build", `-Dtarget=${target}`, "-p", prefix], { cwd: ROOT });
  if (built.exitCode !== 0) throw new Error(`zig build for ${target}:\n${built.stderr}`);
  return join(prefix, "lib");
}

/** Compiles one C program of the tests for a target, dynamically linked; returns its path. */
export function compileFor(
  target: string,
  output: string,
  source: string,
  ...more: readonly string[]
): string {
  const flags = [
    "-std=gnu11",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
    "-dynamic",
    "-target",
    target,
  ];
  const built = Bun.spawnSync([ZIG, "cc", ...flags, "-o", output, source, ...more]);
  if (built.exitCode !== 0) throw new Error(`zig cc for ${target}:\n${built.stderr}`);
  return output;
}
