/** The readers of configuration files: whatever is in a file, they say what is wrong with it, and where. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { stringify } from "smol-toml";
import { readConfiguration } from "../../src/config/read.ts";
import { readRelays } from "../../src/config/relay-toml.ts";
import { interfaceIndex } from "../../src/io/connect.ts";
import { type AddressPattern, formatPattern, masked, prefixMask } from "../../src/model/address.ts";
import { type Diagnostic, formatDiagnostic, hasErrors } from "../../src/model/diagnostic.ts";
import { configure } from "../../src/programs/configure.ts";
import type { Action, Draft } from "../../src/routing/draft.ts";
import { holds, kept, mutatedText } from "./kit.ts";

const TOML = "/etc/socketbox.toml";
const LINES = "/etc/socketbox.conf";
const RELAYS = "/etc/relay.toml";

interface Result {
  readonly configuration?: unknown;
  readonly diagnostics: readonly Diagnostic[];
}

/** Each diagnostic stands somewhere in the text, and is one line; there are errors exactly when nothing was read. */
function expectSound(file: string, text: string, { configuration, diagnostics }: Result): void {
  const lines = text.split("\n");
  for (const diagnostic of diagnostics) {
    const { place, what } = diagnostic;
    const said = formatDiagnostic(diagnostic);
    const line = lines[place.line - 1];
    if (place.file !== file || line === undefined || place.column < 1 || place.column > line.length + 1)
      throw new Error(`not in the text: ${said}`);
    if (what === "" || /[\p{Cc}\u2028\u2029]/u.test(said)) throw new Error(`not a line: ${said}`);
  }
  if ((configuration === undefined) !== hasErrors(diagnostics))
    throw new Error(`${configuration ? "read" : "refused"} with ${diagnostics.map(formatDiagnostic)}`);
}

function readServer(file: string, text: string): void {
  expectSound(file, text, readConfiguration(file, text));
  const { configured, diagnostics } = configure(file, text);
  expectSound(file, text, { configuration: configured, diagnostics });
}

function readRelay(_: string, text: string): void {
  expectSound(RELAYS, text, readRelays(RELAYS, text, interfaceIndex));
}

const WORDS = {
  toml: ["[[route]]", "[[listen]]", "[server]", "[target.a]", "[table.b]", "[slots]", "[[registry]]"]
    .concat([
      "[[registry.allow]]",
      "to",
      "local",
      "port",
      "remote",
      "listener",
      "proxy",
      "proxy-from",
      "wait",
    ])
    .concat(["unix:", "slot:", "fd:", "table:", "target:", "deny", "true", "[]", "{}", '""', "__proto__"]),
  lines: ["rule-set:0", "map-set:0", "size:1", "match-lip:64", "match-lport", "match-rip", "match-rport"]
    .concat(["ip:", "rip:", "port:", "rport:", "jump-unix:/run/a", "jump-fd:3", "jump-rule:1", "jump-map:0"])
    .concat(["fail", "default", "max-maps:1", "max-rules:1", "::/0", "10.0.0.0/8", "::1"]),
  relay: ["[[relay]]", "from", "to", "balance", "nat64", "source", "send-proxy", "max", "per-source", "proxy"]
    .concat(["unix:/run/a", "slot:1:/run/r", "fd:3", "[::1]:80", "a.example:80", "[fe80::1%lo]:80"])
    .concat(["64:ff9b::/96", "idle-timeout", "retry", "true", "[]", "{}", '""', "client", "constructor"]),
};

const FRONT_ENDS = [
  ["toml", TOML, readServer, 1500],
  ["lines", LINES, readServer, 1000],
  ["relay", RELAYS, readRelay, 1500],
] as const;

describe.each(FRONT_ENDS)("%s", (folder, file, read, runs) => {
  const texts = kept(folder);

  test.each(texts)("%s is read, or refused with a place", (_, bytes) => {
    read(file, bytes.toString());
  });

  const text = mutatedText(
    texts.map(([, bytes]) => bytes.toString()),
    WORDS[folder],
  );
  holds(
    "any change of a file is read, or refused with a place",
    runs,
    fc.property(text, (text) => read(file, text)),
  );
});

/** A value of any kind that TOML has, mostly of the kind that belongs there. */
const anyOr = <T>(right: fc.Arbitrary<T>) => {
  const scalar = fc.oneof(
    fc.string({ maxLength: 8 }),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constantFrom("unix:/run/a", "::/0", "80-90", "10s", "-1"),
  );
  const wrong = fc.oneof(
    scalar,
    fc.array(scalar, { maxLength: 3 }),
    fc.dictionary(fc.constantFrom("to", "__proto__", "a b", "constructor", ""), scalar, { maxKeys: 2 }),
  );
  return fc.oneof({ weight: 6, arbitrary: right }, { weight: 1, arbitrary: wrong });
};

const some = (fields: Record<string, fc.Arbitrary<unknown>>) => {
  const entries = Object.entries(fields).map(([name, value]) => [name, anyOr(value)]);
  return fc.record(Object.fromEntries(entries), { requiredKeys: [] });
};
const list = (item: fc.Arbitrary<unknown>) => fc.array(anyOr(item), { maxLength: 2 });
const NAMES = ["a", "b", "main", "__proto__", "toString", "a.b", "\u0007"];
const named = (value: fc.Arbitrary<unknown>) =>
  fc.dictionary(fc.constantFrom(...NAMES), anyOr(value), { maxKeys: 2 });

const addresses = fc.constantFrom("::1", "192.0.2.1", "2001:db8::/32", "10.0.0.1/8", "::5/::ffff");
const to = fc.constantFrom(
  "unix:/a",
  "unix:/{port}",
  "fd:3",
  "slot:1",
  "slot:a",
  "table:b",
  "target:a",
  "deny",
);
const port = fc.oneof(fc.integer({ min: 1, max: 65535 }), fc.constantFrom("1-2", "80"));
const duration = fc.constantFrom(1, 0.5, "10s", "500ms", "1h", "2m");
const proxy = {
  proxy: fc.constantFrom("require", "optional", "never"),
  "proxy-from": list(addresses),
  "proxy-timeout": duration,
};
const routes = list(
  some({
    to,
    local: addresses,
    port: fc.oneof(port, list(port)),
    remote: list(addresses),
    "remote-port": port,
    listener: fc.constantFrom("main", "a", "listen-1"),
  }),
);
const serverDocument = some({
  server: some({
    user: fc.constantFrom("root", 0),
    groups: list(fc.constant(1)),
    chroot: fc.constant("/"),
    workers: fc.nat(3),
  }),
  listen: list(
    some({ name: fc.constant("a"), address: fc.constantFrom("::", "fe80::1%2"), port: fc.nat(9), ...proxy }),
  ),
  route: routes,
  table: named(some({ route: routes })),
  target: named(some({ to: fc.oneof(to, list(to)), queue: fc.nat(9), wait: duration })),
  registry: list(
    some({
      path: fc.constantFrom("/a", "@b"),
      mode: fc.constant("0660"),
      allow: list(some({ slot: fc.nat(9), user: fc.constant(0) })),
    }),
  ),
  slots: named(fc.nat(9)),
});
const relayDocument = some({
  relay: list(
    some({
      name: fc.constant("a"),
      from: fc.constantFrom("unix:/run/a", "slot:1:/r", "fd:0"),
      to: fc.oneof(fc.constant("[::1]:80"), list(fc.constantFrom("a.example:80", "unix:@a", "192.0.2.1:0"))),
      balance: fc.constantFrom("source", "round-robin"),
      nat64: fc.constant("64:ff9b::/96"),
      source: fc.constantFrom("client", "::1"),
      "per-source": fc.constantFrom(1, "20/56"),
      retry: duration,
      "idle-timeout": duration,
      ...proxy,
    }),
  ),
});

/** As TOML; its texts are made well-formed first, as every file is. */
function printed(document: object): string {
  const wellFormed = (_: string, value: unknown) =>
    typeof value === "string" ? value.toWellFormed() : value;
  return stringify(JSON.parse(JSON.stringify(document, wellFormed)));
}

describe("a document with anything anywhere", () => {
  holds(
    "is a configuration, or refused with a place",
    700,
    fc.property(serverDocument, (document) => readServer(TOML, printed(document))),
  );
  holds(
    "is a configuration of relays, or refused with a place",
    700,
    fc.property(relayDocument, (document) => readRelay(RELAYS, printed(document))),
  );
});

const sixteen = fc.uint8Array({ minLength: 16, maxLength: 16 });
const mask = fc.oneof(fc.integer({ min: 0, max: 128 }).map(prefixMask), sixteen);
const pattern: fc.Arbitrary<AddressPattern> = fc
  .tuple(sixteen, mask)
  .map(([address, mask]) => ({ address: masked(address, mask), mask }));

const portNumber = fc.integer({ min: 1, max: 65535 });
const name = fc.stringMatching(/^[!-z|~]{1,100}$/);
const rule = fc.record(
  {
    local: pattern,
    localPort: portNumber,
    remote: pattern,
    remotePort: portNumber,
    to: fc.oneof(
      fc.constant("deny"),
      fc.nat(0x7fffffff).map((fd) => `fd:${fd}`),
      name.map((name) => `unix:/${name}`),
      name.map((name) => `unix:@${name}`),
    ),
  },
  { requiredKeys: ["to"] },
);
type Rule = typeof rule extends fc.Arbitrary<infer R> ? R : never;

function inToml(rules: readonly Rule[]): string {
  return stringify({
    route: rules.map(({ local, localPort, remote, remotePort, to }) => ({
      ...(local && { local: formatPattern(local) }),
      ...(localPort && { port: localPort }),
      ...(remote && { remote: formatPattern(remote) }),
      ...(remotePort && { "remote-port": remotePort }),
      to,
    })),
  });
}

function inLines(rules: readonly Rule[]): string {
  const entries = rules.map(({ local, localPort, remote, remotePort, to }) =>
    [
      ...(remotePort ? [`rport:${remotePort}`] : []),
      ...(local ? [`ip:${formatPattern(local)}`] : []),
      to === "deny" ? "fail" : `jump-${to}`,
      ...(localPort ? [`port:${localPort}`] : []),
      ...(remote ? [`rip:${formatPattern(remote)}`] : []),
    ].join(" "),
  );
  return ["rule-set:0", ...entries].join("\n");
}

/** A draft without where it was written. */
function meaning({ tables }: Draft) {
  const target = (action: Action) => (action.kind === "target" ? action.target : action);
  return tables.map(({ routes }) =>
    routes.map(({ place: _, action, ...rest }) => ({ ...rest, action: target(action) })),
  );
}

function draftOf(file: string, text: string) {
  const { configuration, diagnostics } = readConfiguration(file, text);
  if (configuration && diagnostics.length === 0) return meaning(configuration.draft);
  throw new Error(`${diagnostics.map(formatDiagnostic)} in\n${text}`);
}

describe("any list of routes", () => {
  holds(
    "printed in either language is read as the same draft, and as what it was",
    400,
    fc.property(fc.array(rule, { minLength: 1, maxLength: 5 }), (rules) => {
      const draft = draftOf(TOML, inToml(rules));
      expect(draftOf(LINES, inLines(rules))).toEqual(draft);
      for (const [index, { local, localPort, remote, remotePort }] of rules.entries()) {
        const route = draft[0]![index]!;
        expect(route.local).toEqual(local ? [local] : []);
        expect(route.remote).toEqual(remote ? [remote] : []);
        expect(route.localPorts).toEqual(localPort ? [{ first: localPort, last: localPort }] : []);
        expect(route.remotePorts).toEqual(remotePort ? [{ first: remotePort, last: remotePort }] : []);
      }
    }),
  );
});
