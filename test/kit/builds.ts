/** The libraries as they are built for another machine or libc, made by build.zig when they are first needed. */
import { mkdirSync, readdirSync } from "node:fs";
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

const FLAGS = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"];
const FOR_MUSL = ["-Wno-sign-compare"]; // as in build.zig

function cc(target: string, args: readonly string[], cwd = ROOT): void {
  const flags = [...FLAGS, ...FOR_MUSL, "-target", target];
  const built = Bun.spawnSync([ZIG, "cc", ...flags, ...args], { cwd });
  if (built.exitCode !== 0) throw new Error(`zig cc for ${target}:\n${built.stderr}`);
}

/** Compiles a C program of the tests for a target, dynamically linked unless told otherwise; returns its path. */
export function compileFor(target: string, output: string, ...inputs: readonly string[]): string {
  cc(target, ["-dynamic", "-o", output, ...inputs]);
  return output;
}

/** Compiles C files into object files in a folder of their own; returns their paths. */
export function objectsFor(target: string, folder: string, sources: readonly string[]): string[] {
  mkdirSync(folder);
  cc(target, ["-c", ...sources], folder);
  return readdirSync(folder).map((name) => join(folder, name));
}
