/** What reading either TOML file begins with: its text to a document, and from it only what has the right shape. */
import { parse, TomlError } from "smol-toml";
import { Fault, type Findings } from "./fault.ts";
import { type Misshape, misshapes, prune, type Shape } from "./issues.ts";
import type { Places } from "./places.ts";

/** `undefined`, and an error among the findings, where the text is no TOML. Its shape is still to be looked at. */
export function parseDocument<Document>(
  file: string,
  text: string,
  findings: Findings,
): Document | undefined {
  try {
    return parse(text) as Document;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split("\n")[0]!.replace(/^Invalid TOML document: /, "");
    findings.error({ file, line: error.line, column: error.column }, new Fault(what, "TOML"));
    return undefined;
  }
}

/** Takes whatever is misshapen out of the document, so that the rest can be read. Each is an error, and returned. */
export function takeOutMisshapes(
  document: object,
  places: Places,
  findings: Findings,
  shape?: Shape,
): Misshape[] {
  const found = misshapes(document, shape);
  for (const { way, part, fault } of found)
    findings.error(part === "key" ? places.ofKey(way) : places.ofValue(way), fault);
  prune(document, found);
  return found;
}
