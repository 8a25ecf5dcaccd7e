/** The header, the symbol table, the struct layouts and the built library say the same. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { helperLibrary } from "../../src/native/assets.ts";
import { native } from "../../src/native/library.ts";
import { structs } from "../../src/native/structs.ts";
import { symbols } from "../../src/native/symbols.ts";
import { FLOW_WORDS } from "../../src/routing/record.ts";
import { program, testWith } from "../kit/require.ts";
import { must, ROOT } from "../kit/running.ts";

const header = readFileSync(join(ROOT, "cshim/socketbox.h"), "utf8");

/** A name, and how the parameters are written. */
const declared = [...header.matchAll(/^SB_EXPORT int (sb_\w+)\(([^)]*)\);/gm)].map(
  ([, name, parameters]) => [name!, parameters!.replace(/\s+/g, " ")] as const,
);

describe("the boundary", () => {
  test("header and symbol table name the same functions in the same order", () => {
    expect(declared.map(([name]) => name)).toEqual(Object.keys(symbols));
  });

  test("every function takes as many arguments in TypeScript as in C", () => {
    const inC = declared.map(([, text]) => (text === "void" ? 0 : text.split(",").length));
    expect(inC).toEqual(Object.values(symbols).map(({ args }) => args.length));
  });

  testWith(program("nm"))("the library exports the declared functions and nothing else", async () => {
    const exported = (await must(["nm", "-D", "--defined-only", helperLibrary]))
      .split("\n")
      .flatMap((line) => line.split(" ")[2] ?? [])
      .filter((name) => name !== "_init" && name !== "_fini");
    expect(exported.sort()).toEqual(declared.map(([name]) => name).sort());
  });

  test("every struct has the same size in C and in TypeScript", () => {
    const sizes = Object.values(structs).map(({ size }) => size);
    expect(sizes).toEqual(sizes.map((_, index) => native.sb_sizeof(index)));
    expect(native.sb_sizeof(sizes.length)).toBeLessThan(0);
  });

  test("routing reads flow records as long as C writes them", () => {
    expect(structs.sb_flow.size).toBe(FLOW_WORDS * 4);
  });
});
