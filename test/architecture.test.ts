/** What docs/ARCHITECTURE.md says about the source, held true. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { ROOT } from "./kit/running.ts";

/** Each folder may import itself and what its list names. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  model: [],
  routing: ["model"],
  wire: ["model"],
  config: ["model", "routing"],
  native: ["model", "routing", "config", "wire"],
  io: ["model", "routing", "config", "wire", "native"],
  programs: ["model", "routing", "config", "wire", "native", "io"],
  cli: ["model", "routing", "config", "wire", "native", "io", "programs"],
};

/** The one folder that may import each of these. */
const HOME: Readonly<Record<string, string>> = {
  "bun:ffi": "native",
  citty: "cli",
  "smol-toml": "config",
  "toml-eslint-parser": "config",
  valibot: "config",
};

/** Where reading starts: every other file must be imported by some file that is. */
const ENTRY_POINTS = [
  "cli/main.ts",
  "programs/acceptor.ts",
  "programs/lookout-thread.ts",
  "native/embedded.d.ts",
];

const PURE = ["model", "routing", "config", "wire"];

const SRC = join(ROOT, "src");
const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), "utf8");
  return [...text.matchAll(/^(?:import|export)\b[^;]*?from "([^"]+)"/gms)].map((match) => match[1]!);
}

/** Path below src/, for an import of one of our own files. */
function resolved(file: string, specifier: string): string {
  return relative(SRC, resolve(SRC, dirname(file), specifier));
}

function folderOf(file: string): string {
  return file.split("/")[0]!;
}

describe("layers", () => {
  test("the list of layers names every folder of src/", () => {
    expect([...new Set(files.map(folderOf))].sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  test("a folder imports only itself and what stands to its left", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((specifier) => specifier.startsWith(".") && specifier.endsWith(".ts"))
        .map((specifier) => resolved(file, specifier))
        .filter(
          (to) => folderOf(to) !== folderOf(file) && !MAY_IMPORT[folderOf(file)]!.includes(folderOf(to)),
        )
        .map((to) => `${file} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test("each library has one home", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((specifier) => HOME[specifier] !== undefined && HOME[specifier] !== folderOf(file))
        .map((specifier) => `${file} imports ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  test("pure folders do no input or output, and read no clock", () => {
    const impure = /from "(node|bun):|\bprocess\.|\bBun\.|performance\.now|Date\.now|new Date\(|Math\.random/;
    const wrong = files.filter(
      (file) => PURE.includes(folderOf(file)) && impure.test(readFileSync(join(SRC, file), "utf8")),
    );
    expect(wrong).toEqual([]);
  });

  test("every file is used", () => {
    const used = new Set(ENTRY_POINTS);
    for (const file of files) {
      for (const specifier of importsOf(file))
        if (specifier.startsWith(".")) used.add(resolved(file, specifier));
    }
    expect(files.filter((file) => !used.has(file))).toEqual([]);
  });
});

describe("style", () => {
  test("no line of the sources is longer than 120 columns", () => {
    const long = files.flatMap((file) =>
      readFileSync(join(SRC, file), "utf8")
        .split("\n")
        .flatMap((line, index) => (line.length > 120 ? [`${file}:${index + 1}`] : [])),
    );
    expect(long).toEqual([]);
  });

  test("nothing below programs/ prints", () => {
    const loud = files.filter(
      (file) =>
        !["cli"].includes(folderOf(file)) &&
        /console\.|process\.std/.test(readFileSync(join(SRC, file), "utf8")),
    );
    expect(loud).toEqual([]);
  });
});

describe("documents", () => {
  const documents = ["RELIABILITY.md", "SECURITY.md", "systemd/README.md"];

  test("name tests that are there", () => {
    const missing = documents.flatMap((name) => {
      const text = readFileSync(join(ROOT, "docs", name), "utf8");
      const paths = text.match(/\b(?:test|cshim)\/[\w./-]*\w/g) ?? [];
      expect([name, paths.length]).not.toEqual([name, 0]);
      return paths.filter((path) => !existsSync(join(ROOT, path)));
    });
    expect(missing).toEqual([]);
  });
});
