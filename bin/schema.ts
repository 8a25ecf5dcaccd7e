/**
 * Writes docs/socketbox.schema.json, the JSON Schema of a TOML configuration: `bun bin/schema.ts`. An editor with a
 * TOML language server (Even Better TOML, taplo, tombi) completes and checks a file whose first line names it:
 *
 *     #:schema /usr/share/doc/socketbox/socketbox.schema.json
 *
 * The place may be a path or a URL. test/config/schema.test.ts holds the file equal to what src/config/schema.ts says.
 */
import { join } from "node:path";
import { toJsonSchema } from "@valibot/to-json-schema";
import { DocumentSchema } from "../src/config/schema.ts";

export const SCHEMA_FILE = join(import.meta.dir, "../docs/socketbox.schema.json");

/** The text of the file. */
export function schemaText(): string {
  // A check that JSON Schema has no word for must fail here, not be left out.
  const schema = toJsonSchema(DocumentSchema, { typeMode: "input", errorMode: "throw" });
  return `${JSON.stringify({ title: "socketbox configuration", ...schema }, null, 2)}\n`;
}

if (import.meta.main) await Bun.write(SCHEMA_FILE, schemaText());
