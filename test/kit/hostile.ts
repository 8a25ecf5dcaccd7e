/** A folder in which Bun, left to itself, would run code, or read an environment, that is not ours. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { scratch } from "./running.ts";

export interface HostileFolder extends Disposable {
  readonly path: string;
  file(name: string): string;
  /** Whether anything of the folder was run. */
  readonly sprung: boolean;
}

/** A name that only the folder's .env files bring into an environment. */
export const BAIT = "SOCKETBOX_TEST_BAIT";

export function hostileFolder(): HostileFolder {
  const folder = scratch();
  const mark = folder.file("sprung");
  // It leaves a mark, and ends whatever runs it with 99.
  const trap = `require("node:fs").writeFileSync(${JSON.stringify(mark)}, ""); process.exit(99);\n`;
  const preload = 'preload = ["./trap.ts"]\n';
  const paths = '{ "compilerOptions": { "baseUrl": ".", "paths": { "*": ["./trap.ts"] } } }';
  // One that cannot be read, so that a program which reads the mode says so.
  const environment = `${BAIT}=1\nSKBOX_STRICT_STREAM_MODE=bad\nBUN_OPTIONS=--preload=./trap.ts\n`;
  const files: Record<string, string> = {
    "trap.ts": trap,
    "bunfig.toml": `${preload}[run]\n${preload}`,
    ".bunfig.toml": preload,
    "tsconfig.json": paths,
    "jsconfig.json": paths,
    "package.json": '{ "imports": { "#any": "./trap.ts" } }',
  };
  for (const suffix of ["", ".local", ".production", ".development"]) files[`.env${suffix}`] = environment;
  for (const name of ["citty", "smol-toml", "valibot"]) files[`node_modules/${name}/index.js`] = trap;
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(folder.file(name)), { recursive: true });
    writeFileSync(folder.file(name), text);
  }
  return {
    path: folder.path,
    file: folder.file,
    get sprung() {
      return existsSync(mark);
    },
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}
