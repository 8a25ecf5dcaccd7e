import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "smol-toml";
import { PROGRAMS, schemaFile, schemaText } from "../../bin/schema.ts";
import { readConfiguration } from "../../src/config/read.ts";
import { readRelays } from "../../src/config/relay-toml.ts";
import { ROOT } from "../kit/running.ts";

interface Schema {
  readonly type?: string;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly minItems?: number;
}

const schema: Schema = JSON.parse(readFileSync(schemaFile("socketbox"), "utf8"));
const relaySchema: Schema = JSON.parse(readFileSync(schemaFile("socketbox-relay"), "utf8"));

/** As much of JSON Schema (draft 7) as the file uses. */
function fits(schema: Schema, value: unknown): boolean {
  if (schema.enum) return schema.enum.includes(value);
  if (schema.anyOf) return schema.anyOf.some((alternative) => fits(alternative, value));
  switch (schema.type) {
    case "string":
      return (
        typeof value === "string" &&
        value.length >= (schema.minLength ?? 0) &&
        new RegExp(schema.pattern ?? "", "u").test(value)
      );
    case "boolean":
      return typeof value === "boolean";
    case "number":
    case "integer": {
      if (typeof value !== "number" || (schema.type === "integer" && !Number.isInteger(value))) return false;
      return value >= (schema.minimum ?? value) && value <= (schema.maximum ?? value);
    }
    case "array":
      return (
        Array.isArray(value) &&
        value.length >= (schema.minItems ?? 0) &&
        value.every((item) => fits(schema.items ?? {}, item))
      );
    case "object": {
      if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
      const others = schema.additionalProperties ?? true;
      const inside = Object.entries(value).every(([key, item]) => {
        const property = schema.properties?.[key] ?? others;
        return typeof property === "boolean" ? property : fits(property, item);
      });
      return inside && (schema.required ?? []).every((key) => Object.hasOwn(value, key));
    }
    default:
      return true;
  }
}

/** Every value that a key can take, in words that are as unlike as they can be. */
const GOOD = [
  '[[listen]]\naddress = "fe80::1%2"\nport = 0\nnetns = "/run/netns/a"\n[[route]]\nto = "deny"',
  '[server]\nuser = 65534\ngroups = ["tty", 0]\nchroot = "/var"\n[[route]]\nto = "fd:3"',
  '[[route]]\nlocal = "::ffff:192.0.2.0/120"\nremote = ["10.0.0.0/255.0.0.0", "::/::ffff:ffff:ffff:ffff"]\nto = "slot:web"\n[slots]\nweb = 4294967295',
  '[[route]]\nport = [1, "8000-8010", "443"]\nremote-port = "1-65535"\nto = "target:a b"\n[target."a b"]\nto = "unix:@{port}"\nwait = 0.5\nqueue = 1',
  '[[route]]\nto = "table:x"\n[[table.x.route]]\nto = "unix:/run/{local}"\nlistener = ["main"]',
];

test.each(PROGRAMS)(
  "docs/%s.schema.json is what bin/schema.ts makes of the schema of its files",
  (program) => {
    expect(readFileSync(schemaFile(program), "utf8")).toBe(schemaText(program));
  },
);

describe("docs/socketbox-relay.schema.json", () => {
  const judge = (text: string) => [
    readRelays("relay.toml", text, () => 1).configuration !== undefined,
    fits(relaySchema, parse(text)),
  ];

  test.each([
    '[[relay]]\nfrom = "fd:3"\nto = "[::1]:80"',
    '[[relay]]\nfrom = "slot:3:/run/registry"\nto = ["web.example:80", "unix:@app"]\nbalance = "source"\nmax = 10',
    '[[relay]]\nname = "web"\nfrom = "unix:/run/web"\nto = "[::1]:0"\nidle-timeout = "10m"\nper-source = "20/56"',
  ])("lets an editor accept what the reader accepts: %j", (text) => {
    expect(judge(text)).toEqual([true, true]);
  });

  test.each([
    "",
    '[[relay]]\nfrom = "fd:3"',
    '[[relay]]\nto = "[::1]:80"',
    '[[relay]]\nfrom = "run/web"\nto = "[::1]:80"',
    '[[relay]]\nfrom = "fd:3"\nto = "::1"',
    '[[relay]]\nfrom = "fd:3"\nto = []',
    '[[relay]]\nfrom = "fd:3"\nto = "[::1]:80"\nmax = 0',
    '[[relay]]\nfrom = "fd:3"\nto = "[::1]:80"\nsend-proxy = "v3"',
    '[[relay]]\nfrom = "fd:3"\nto = "[::1]:80"\nports = 1',
  ])("lets an editor point out what the reader refuses: %j", (text) => {
    expect(judge(text)).toEqual([false, false]);
  });
});

describe("docs/socketbox.schema.json", () => {
  test.each(GOOD)("lets an editor accept what the reader accepts: %j", (text) => {
    expect(readConfiguration("good.toml", text).diagnostics).toEqual([]);
    expect(fits(schema, parse(text))).toBe(true);
  });

  test.each([
    '[[route]]\nto = "accept"',
    '[[route]]\nto = "unix:run/a"',
    '[[route]]\nto = "deny"\nport = 70000',
    '[[route]]\nto = "deny"\nport = "80-"',
    '[[route]]\nto = "deny"\nlocal = "localhost"',
    '[[route]]\nto = "deny"\nports = 80',
    '[[route]]\nlocal = "::1"',
    "[server]\nworkers = 0",
    "[target.a]\nqueue = 5",
    '[target.a]\nto = "fd:3"\nwait = "2d"',
  ])("lets an editor point out what the reader refuses: %j", (text) => {
    expect(readConfiguration("bad.toml", text).configuration).toBeUndefined();
    expect(fits(schema, parse(text))).toBe(false);
  });

  test("tells an editor what each key of the top is for", () => {
    const silent = Object.entries(schema.properties!).filter(([, property]) => !("description" in property));
    expect(silent.map(([key]) => key)).toEqual([]);
  });
});

describe("docs/CONFIGURATION.md", () => {
  const examples = readFileSync(join(ROOT, "docs/CONFIGURATION.md"), "utf8")
    .split("\n\n## ")
    .flatMap((section) => section.match(/(?:^ {4}.*\n|^\n(?= {4}))+/gm) ?? [])
    .map((block) => block.replace(/^ {4}/gm, ""));

  test("has an example in each language", () => {
    expect(examples.some((text) => text.includes("[[route]]"))).toBe(true);
    expect(examples.some((text) => text.includes("rule-set:"))).toBe(true);
  });

  test.each(examples)("%j is read without a fault", (text) => {
    const file = text.includes("rule-set:") ? "example.conf" : "example.toml";
    expect(readConfiguration(file, text).diagnostics).toEqual([]);
  });
});
