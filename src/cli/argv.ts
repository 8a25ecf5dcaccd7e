/**
 * Splits a command line by the rules of getopt(3), strictly, before citty sees it: values attached (`-p80`,
 * `--port=80`) or separate, letters clustered (`-tF`), options end at the first other word or at `--`. What is not
 * defined, misses its value, or comes twice is an error; citty would let all three pass.
 */
import type { ArgsDef } from "citty";
import { EXIT, Failure } from "../programs/host.ts";

export interface Split {
  /** The options, each as `--name=value` or `--name`. */
  readonly options: readonly string[];
  /** Everything from the first other word on. */
  readonly words: readonly string[];
}

interface Option {
  readonly name: string;
  readonly takesValue: boolean;
}

/** Options named in `repeatable` may come more than once; each is in the result, in order. */
export function splitArguments(
  argv: readonly string[],
  definition: ArgsDef,
  repeatable: readonly string[] = [],
): Split {
  const seen = new Set<string>();
  const options: string[] = [];
  const rest = [...argv];
  while (rest.length > 0 && rest[0]!.startsWith("-") && rest[0] !== "-") {
    const word = rest.shift()!;
    if (word === "--") break;
    for (const [option, shown, attached] of optionsIn(word, definition)) {
      if (seen.has(option.name) && !repeatable.includes(option.name))
        throw new Failure(EXIT.usage, `option ${shown} is given twice`);
      seen.add(option.name);
      if (!option.takesValue) {
        if (attached !== undefined) throw new Failure(EXIT.usage, `option ${shown} takes no value`);
        options.push(`--${option.name}`);
        continue;
      }
      const value = attached ?? rest.shift();
      if (value === undefined) throw new Failure(EXIT.usage, `option ${shown} needs a value`);
      options.push(`--${option.name}=${value}`);
    }
  }
  return { options, words: rest };
}

type Found = [option: Option, shown: string, attached: string | undefined];

/** The options of one word: one if it begins with two dashes, else a cluster of letters. */
function optionsIn(word: string, definition: ArgsDef): Found[] {
  if (word.startsWith("--")) {
    const [name, ...value] = word.slice(2).split("=");
    return [[find(`--${name}`, definition), `--${name}`, value.length > 0 ? value.join("=") : undefined]];
  }
  const found: Found[] = [];
  for (let i = 1; i < word.length; i++) {
    const shown = `-${word[i]}`;
    const option = find(shown, definition);
    const attached = option.takesValue && i + 1 < word.length ? word.slice(i + 1) : undefined;
    found.push([option, shown, attached]);
    if (option.takesValue) break;
  }
  return found;
}

function find(shown: string, definition: ArgsDef): Option {
  for (const [name, option] of Object.entries(definition)) {
    const letters = "alias" in option ? [option.alias ?? []].flat() : [];
    if (shown === `--${name}` || letters.some((letter) => shown === `-${letter}`)) {
      return { name, takesValue: option.type !== "boolean" };
    }
  }
  throw new Failure(EXIT.usage, `there is no option ${shown}`);
}
