import { describe, expect, test } from "bun:test";
import { readRelays } from "../../src/config/relay-toml.ts";
import { formatDiagnostic } from "../../src/model/diagnostic.ts";
import { formatUpstream } from "../../src/model/upstream.ts";
import { marked } from "./faults.ts";

const FILE = "/etc/relay.toml";
const LEAST = '[[relay]]\nfrom = "fd:0"\nto = "[::1]:80"\n';
const interfaceIndex = (name: string) => (name === "lo" ? 1 : undefined);

function relayOf(more: string, text = LEAST) {
  const { configuration, diagnostics } = readRelays(FILE, text + more, interfaceIndex);
  if (!configuration) throw new Error(diagnostics.map(formatDiagnostic).join("\n"));
  return configuration.relays[0]!;
}

/** Wrong at its mark and nowhere else. */
function expectFault(written: string, message: string): void {
  const { text, places } = marked(written);
  const { configuration, diagnostics } = readRelays(FILE, text, interfaceIndex);
  expect(diagnostics.map(formatDiagnostic)).toEqual([`${FILE}:${places[0]}: ${message}`]);
  expect(configuration).toBeUndefined();
}

describe("a relay", () => {
  test("with nothing but a source and a target has the defaults of the command line", () => {
    const { to, ...rest } = relayOf("");
    expect(to.map(formatUpstream)).toEqual(["[::1]:80"]);
    expect(rest).toEqual({
      name: "fd:0",
      from: { kind: "fd", fd: 0 },
      balance: "round-robin",
      retryMs: 10_000,
      proxy: { mode: "never", from: [], waitMs: 3000 },
      timeouts: { connect: 10_000, idle: 0, halfClosed: 3_600_000, total: 0 },
      max: 1_000_000,
    });
  });

  test("may say everything", () => {
    const relay = relayOf(
      `name = "web"
       balance = "source"
       retry = 0
       source = "client"
       netns = "blue"
       send-proxy = "v2"
       client-netns = "green"
       connect-timeout = "1.5s"
       idle-timeout = "1h"
       half-closed-timeout = 0.25
       total-timeout = "2m"
       max = 7
       per-source = "20/56"
       nat64 = "2001:db8:64::/64"`,
    );
    expect(relay).toMatchObject({
      name: "web",
      balance: "source",
      retryMs: 0,
      source: "client",
      netns: "blue",
      sendProxy: 2,
      clientNetns: "green",
      timeouts: { connect: 1500, idle: 3_600_000, halfClosed: 250, total: 120_000 },
      max: 7,
      perSource: { most: 20, prefixLength: 56 },
      nat64: { length: 64 },
    });
  });

  test.each([
    ["unix:/run/a", { kind: "unix", path: "/run/a" }],
    ["unix:@a", { kind: "unix", path: "@a" }],
    ["slot:3:/run/r", { kind: "slot", slot: 3, path: "/run/r" }],
    ["fd:5", { kind: "fd", fd: 5 }],
    ["systemd:web", { kind: "passed", name: "web" }],
  ] as const)("takes connections from %s", (from, inlet) => {
    const relay = relayOf("", `[[relay]]\nfrom = "${from}"\nto = "unix:/x"\n`);
    expect(relay).toMatchObject({ from: inlet, name: from });
  });

  test("takes one target or several, of every kind", () => {
    const to = '["[::1]:8080", "192.0.2.1:0", "web.example:80", "[fe80::1%lo]:80", "unix:@app"]';
    const relay = relayOf("", `[[relay]]\nfrom = "fd:0"\nto = ${to}\n`);
    expect(relay.to.map(formatUpstream)).toEqual([
      "[::1]:8080",
      "[::ffff:192.0.2.1]:0",
      "web.example:80",
      "[fe80::1%1]:80",
      "unix:@app",
    ]);
    expect(relay.to[3]).toMatchObject({ scope: 1 });
  });

  test.each([
    [2, "per-source = 2", { most: 2, prefixLength: 64 }],
    [5, 'per-source = "5"', { most: 5, prefixLength: 64 }],
  ])("at most %d from one /64, where no length is written", (_, written, perSource) => {
    expect(relayOf(written).perSource).toEqual(perSource);
  });
});

describe("a file", () => {
  test("may hold several relays, each with a source of its own", () => {
    const { configuration } = readRelays(FILE, `${LEAST}${LEAST.replace("fd:0", "fd:1")}`, interfaceIndex);
    expect(configuration!.relays.map(({ name }) => name)).toEqual(["fd:0", "fd:1"]);
  });

  test.each([
    [
      `${LEAST}[[relay]]\nfrom = »"fd:0"\nto = "unix:/x"`,
      'error: a second relay from "fd:0"; expected each source once',
    ],
    [`${LEAST}»maximum = 1`, /unknown key "maximum"; expected name, from, to, /],
    ['»[[relay]]\nfrom = "fd:0"', /there is no "to"; expected /],
    ['[[relay]]\nfrom = "fd:0"\nto = »[]', /to is an empty list; expected /],
    ['[[relay]]\nfrom = "fd:0"\nto = ["unix:/x", »"x"]', /"x" is no target; expected /],
    ['[[relay]]\nfrom = "fd:0"\nto = »"[fe80::1%none]:80"', /there is no interface "none"/],
    [
      '[[relay]]\nfrom = "fd:0"\nto = »"[fe80::1]:80"',
      /"fe80::1" is link-local; expected its interface, too/,
    ],
    ['[[relay]]\nfrom = »"systemd:"\nto = "unix:/x"', /"systemd:" has no name/],
    ['[[relay]]\nfrom = »"/run/a"\nto = "unix:/x"', /"\/run\/a" is nowhere that connections come from/],
    [`${LEAST}retry = »"25h"`, 'error: retry "25h" is too long; expected at most 86400 seconds'],
    [`${LEAST}nat64 = »"64:ff9b::/95"`, /nat64 is "64:ff9b::\/95"; expected a prefix of 96 or 64 bits/],
    [`${LEAST}per-source = »"1/129"`, /per-source length 129 is out of range; expected 1 to 128/],
    [`${LEAST}source = »"me"`, 'error: source is "me"; expected "client" or an address'],
    [`${LEAST}proxy = »"require"`, /nobody may send a header; expected proxy-from beside it/],
    [
      '[[relay]]\nfrom = "fd:0"\nto = "a.example:80"\nnat64 = »"64:ff9b::/96"',
      "error: nat64 with a target that is a name; expected an address, whose last bits are replaced",
    ],
    [
      '[[relay]]\nfrom = "fd:0"\nto = »"[fe80::1%a\\u0000]:80"',
      /interface "a\\u\{0\}" has a control character/,
    ],
    [`${LEAST}name = »"a\\nb"`, /name "a\\u\{a\}b" has a control character/],
    [`${LEAST}netns = »"\\u0000"`, /netns "\\u\{0\}" has a control character/],
    [`${LEAST}client-netns = »"\\u0085"`, /client-netns "\\u\{85\}" has a control character/],
    ["relay = »1", /relay is 1; expected \[\[relay\]\]/],
  ] as [string, string | RegExp][])("%j is refused at its place", (written, message) => {
    if (typeof message === "string") return expectFault(written, message);
    const { text, places } = marked(written);
    const { diagnostics } = readRelays(FILE, text, interfaceIndex);
    expect(diagnostics).toHaveLength(1);
    expect(formatDiagnostic(diagnostics[0]!)).toMatch(message);
    expect(formatDiagnostic(diagnostics[0]!)).toStartWith(`${FILE}:${places[0]}: `);
  });

  test("that is no TOML is refused where it stops being any", () => {
    const { diagnostics } = readRelays(FILE, "[[relay]]\nfrom =", interfaceIndex);
    expect(diagnostics).toHaveLength(1);
    expect(diagnostics[0]!.place).toMatchObject({ file: FILE, line: 2 });
  });
});
