import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { splitArguments } from "../../src/cli/argv.ts";
import { EXIT, Failure } from "../../src/programs/host.ts";

const DEFINITION = {
  port: { type: "string", alias: "p" },
  "send-to": { type: "string", alias: "S" },
  transparent: { type: "boolean", alias: "t" },
  freebind: { type: "boolean", alias: "F" },
  max: { type: "string" },
} as const;

function split(...argv: string[]) {
  const { options, words } = splitArguments(argv, DEFINITION);
  return [...options, "|", ...words].join(" ");
}

function refusal(...argv: string[]): string {
  try {
    split(...argv);
  } catch (error) {
    if (error instanceof Failure && error.code === EXIT.usage) return error.message;
  }
  throw new Error(`${argv.join(" ")} was taken`);
}

describe("a command line is split as getopt does it", () => {
  test.each([
    [["-p80"], "--port=80 |"],
    [["-p", "80"], "--port=80 |"],
    [["--port", "80"], "--port=80 |"],
    [["--port=80"], "--port=80 |"],
    [["--port="], "--port= |"],
    [["--port=a=b"], "--port=a=b |"],
    [["-p=80"], "--port==80 |"],
    [["-tF"], "--transparent --freebind |"],
    [["-tFp80"], "--transparent --freebind --port=80 |"],
    [["-tp", "80", "-F"], "--transparent --port=80 --freebind |"],
    [["-ptF"], "--port=tF |"],
    [["-p", "-t"], "--port=-t |"],
    [["-p", "--"], "--port=-- |"],
    [["-S", ""], "--send-to= |"],
    [["--max", "3"], "--max=3 |"],
    [["-t", "program", "-F", "--port"], "--transparent | program -F --port"],
    [["-t", "--", "-F"], "--transparent | -F"],
    [["--", "--"], "| --"],
    [["-t", "-", "-F"], "--transparent | - -F"],
    [[], "|"],
  ])("%p becomes %p", (argv, expected) => {
    expect(split(...argv)).toBe(expected);
  });

  test.each([
    [["-x"], "there is no option -x"],
    [["-tx"], "there is no option -x"],
    [["--nope"], "there is no option --nope"],
    [["--p", "80"], "there is no option --p"],
    [["--Port=80"], "there is no option --Port"],
    [["---port"], "there is no option ---port"],
    [["--constructor"], "there is no option --constructor"],
    [["--no-transparent"], "there is no option --no-transparent"],
    [["-p"], "option -p needs a value"],
    [["-tp"], "option -p needs a value"],
    [["--port"], "option --port needs a value"],
    [["--transparent=yes"], "option --transparent takes no value"],
    [["--transparent="], "option --transparent takes no value"],
    [["-tt"], "option -t is given twice"],
    [["-t", "--transparent"], "option --transparent is given twice"],
    [["-p80", "--port=80"], "option --port is given twice"],
  ])("%p is refused: %s", (argv, message) => {
    expect(refusal(...argv)).toBe(message);
  });

  test("what follows the first other word is left as it is, whatever it looks like", () => {
    const word = fc.oneof(fc.constantFrom("-t", "--", "--port", "-h", "-xyz", ""), fc.string());
    fc.assert(
      fc.property(fc.array(word), (words) => {
        expect(splitArguments(["-t", "program", ...words], DEFINITION).words).toEqual(["program", ...words]);
        expect(splitArguments(["-t", "--", ...words], DEFINITION).words).toEqual(words);
      }),
    );
  });
});
