/** Which language a configuration is in: a name that ends in .toml says so, any other is the line format. */
import type { Reading } from "./configuration.ts";
import { readLines } from "./lines.ts";
import { readToml } from "./toml.ts";

export function readConfiguration(file: string, text: string): Reading {
  return file.endsWith(".toml") ? readToml(file, text) : readLines(file, text);
}
