/** Fast clients and receivers in C, built when they are first needed: what they cost must not blur what is tested. */
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { basename, join } from "node:path";
import { ROOT } from "./running.ts";

const FOLDER = join(ROOT, ".toolchain/tools");

/** The executable made from this C file, a path below the root of the checkout. */
export function tool(source: string): string {
  const path = join(ROOT, source);
  const version = Bun.hash(readFileSync(path)).toString(36);
  const output = join(FOLDER, `${basename(source, ".c")}-${version}`);
  if (existsSync(output)) return output;
  mkdirSync(FOLDER, { recursive: true });
  const unfinished = `${output}.${process.pid}`;
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"];
  const zig = join(ROOT, ".toolchain/bin/zig");
  const { exitCode, stderr } = Bun.spawnSync([zig, "cc", ...flags, "-o", unfinished, path]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  renameSync(unfinished, output);
  return output;
}

/** What became of the clients of one run of load.c. */
export interface Outcome {
  readonly served: number;
  readonly closed: number;
  readonly reset: number;
  readonly refused: number;
  readonly stuck: number;
  readonly seconds: number;
  /** Served, by the byte that the receiver answers with. */
  readonly by: Readonly<Record<string, number>>;
}

export interface Load {
  readonly port: number;
  readonly count: number;
  readonly atATime: number;
  /** Further options of load.c. */
  readonly options?: readonly string[];
}

/** Runs clients to the end. */
export async function load({ port, count, atATime, options = [] }: Load): Promise<Outcome> {
  const command = [tool("test/kit/load.c"), ...options, String(port), String(count), String(atATime)];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`load: exit ${child.exitCode}`);
  return JSON.parse(text) as Outcome;
}
