import { expect, test } from "bun:test";
import { parse } from "../../src/cli/options.ts";

const DEFINITION = {
  max: { type: "string", alias: "m" },
  quick: { type: "boolean", alias: "q" },
  "no-new-privs": { type: "boolean" },
} as const;

test("an option whose name begins with no- is set like any other", () => {
  const { options } = parse(["-q", "--no-new-privs", "-m3"], DEFINITION);
  expect(options["no-new-privs"]).toBe(true);
  expect([options.quick, options.max]).toEqual([true, "3"]);
  expect(parse([], DEFINITION).options["no-new-privs"]).toBeUndefined();
});
