/**
 * Writes the JSON Schemas of TOML configurations, docs/socketbox.schema.json of the server's and
 * docs/socketbox-relay.schema.json of the relay's: `bun bin/schema.ts`. An editor with a TOML language server (Even
 * Better TOML, taplo, tombi) completes and checks a file whose first line names it:
 *
 *     #:schema /usr/share/doc/socketbox/socketbox.schema.json
 *
 * The place may be a path or a URL. test/config/schema.test.ts holds the file equal to what src/config/schema.ts says.
 */
import { join } from "node:path";
import { type ConversionConfig, toJsonSchema } from "@valibot/to-json-schema";
import type { GenericSchema } from "valibot";
import { RelayDocumentSchema } from "../src/config/relay-schema.ts";
import { DocumentSchema } from "../src/config/schema.ts";

const SCHEMAS = {
  socketbox: DocumentSchema,
  "socketbox-relay": RelayDocumentSchema,
} as const;

export type Program = keyof typeof SCHEMAS;
export const PROGRAMS = Object.keys(SCHEMAS) as Program[];

export function schemaFile(program: Program): string {
  return join(import.meta.dir, `../docs/${program}.schema.json`);
}

const CONFIG: ConversionConfig = {
  typeMode: "input",
  errorMode: "throw", // a check that JSON Schema has no word for must fail here, not be left out
  overrideSchema: ({ valibotSchema: schema }) => {
    // That a key must be there is said by the object that has it.
    if (!("wrapped" in schema) || schema.type !== "non_optional") return undefined;
    const { $schema: _, ...wrapped } = toJsonSchema(schema.wrapped as GenericSchema, CONFIG);
    return wrapped;
  },
};

/** The text of the file. */
export function schemaText(program: Program): string {
  const schema = toJsonSchema(SCHEMAS[program], CONFIG);
  return `${JSON.stringify({ title: `${program} configuration`, ...schema }, null, 2)}\n`;
}

if (import.meta.main)
  for (const program of PROGRAMS) await Bun.write(schemaFile(program), schemaText(program));
