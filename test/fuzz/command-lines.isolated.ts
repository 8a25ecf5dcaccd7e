/**
 * The command lines of every program, in a process of its own (command-lines.test.ts), because the programs behind
 * them are replaced by ones that only note what they are asked to do.
 */
import { beforeEach, describe, expect, mock, test } from "bun:test";
import fc from "fast-check";
import { call } from "../kit/called.ts";
import { holds, kept, mutatedText } from "./kit.ts";

let asked: unknown[] = [];
const note =
  (program: string) =>
  (_host: unknown, ...request: unknown[]) => {
    asked.push({ program, request });
    return Promise.resolve(0);
  };

const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  serve: ["serve"],
  check: ["check"],
  explain: ["explain"],
  inetd: ["inetd"],
  relay: ["relay"],
  preload: ["preload", "checkBinds", "printPath"],
  send: ["receiveThenExec", "sendFd"],
  query: ["query"],
};

// The command lines are imported by the first call, after this.
for (const [file, names] of Object.entries(PROGRAMS)) {
  const replaced = Object.fromEntries(names.map((name) => [name, note(name)]));
  mock.module(`../../src/programs/${file}.ts`, () => replaced);
}

beforeEach(() => {
  asked = [];
});

/** What a command line comes to: its answer, and what is asked of the program behind it. */
async function outcome(program: string, argv: readonly string[]) {
  asked = [];
  const { code, log, out } = await call(program, argv);
  return { code, log, out, asked };
}

const lines = kept("argv").flatMap(([, content]) => content.toString().trimEnd().split("\n"));
const NAMES = [...new Set(lines.map((line) => line.split(" ")[0]!))];

/** Exit 0, or one line that says what is wrong; whatever it is, it is no fault of ours. */
async function expectUnderstood(program: string, argv: readonly string[]): Promise<void> {
  const { code, log, out, asked } = await outcome(program, argv);
  expect([0, 2]).toContain(code);
  if (code === 0) expect(asked.length > 0 || out !== "").toBe(true);
  else {
    expect(asked).toEqual([]);
    expect(log).toHaveLength(1);
    if (!log[0]!.endsWith(`; see ${program} --help`) || /[\p{Cc}\u2028\u2029]/u.test(log[0]!))
      throw new Error(`not a line: ${JSON.stringify(log[0])}`);
  }
}

test.each(lines)("%s is understood", async (line) => {
  const [program, ...argv] = line.split(" ");
  expect(await outcome(program!, argv)).toMatchObject({ code: 0, log: [] });
});

describe("any command line", () => {
  const changed = mutatedText(lines, [" ", "-", "--", "=", "-h", "--help", "-V", "-x", "--max=1", "@", "/"]);
  holds(
    "is understood, or refused in one line",
    2500,
    fc.asyncProperty(changed, fc.constantFrom(...NAMES), async (line, name) => {
      const [first = "", ...argv] = line.split(" ");
      await expectUnderstood(NAMES.includes(first) ? first : name, argv);
    }),
  );
});

interface Option {
  readonly letter: string | undefined;
  readonly name: string;
  readonly takesValue: boolean;
}

async function optionsOf(program: string): Promise<Option[]> {
  const { out } = await outcome(program, ["--help"]);
  const found = out.matchAll(/^ +(?:-(\w), )?--([\w-]+)(=<.*?>)? {2}/gm);
  return [...found]
    .map(([, letter, name, value]) => ({ letter, name: name!, takesValue: value !== undefined }))
    .filter(({ name }) => name !== "help" && name !== "version");
}

const VALUES = ["80", "0", "3", "/run/a", "3:/r", "::1", "root", "5s", "lo", "v2", "client", "a=b", "-1", ""];
const spelled = await Promise.all(
  NAMES.map(async (program) => {
    const options = await optionsOf(program);
    return fc.record({
      program: fc.constant(program),
      chosen: fc.uniqueArray(
        fc.record({
          option: fc.constantFrom(...options),
          value: fc.constantFrom(...VALUES),
          way: fc.constantFrom("attached", "apart", "letter", "letter-apart"),
        }),
        { maxLength: 4, selector: ({ option }) => option.name },
      ),
    });
  }),
);

describe("an option", () => {
  const words = fc.array(fc.constantFrom("/s", "prog", "-x", "5"), { maxLength: 3 });

  holds(
    "means the same however it is written",
    1000,
    fc.asyncProperty(fc.oneof(...spelled), words, async ({ program, chosen }, words) => {
      const plain = chosen.flatMap(({ option, value }) =>
        option.takesValue ? [`--${option.name}=${value}`] : [`--${option.name}`],
      );
      const other = chosen.flatMap(({ option: { letter, name, takesValue }, value, way }) => {
        const short = letter !== undefined && way.startsWith("letter") ? `-${letter}` : undefined;
        if (!takesValue) return [short ?? `--${name}`];
        if (way === "attached") return [`--${name}=${value}`];
        return short && way === "letter" && value !== "" ? [short + value] : [short ?? `--${name}`, value];
      });
      expect(await outcome(program, [...other, "--", ...words])).toEqual(
        await outcome(program, [...plain, "--", ...words]),
      );
    }),
  );
});
