import { describe, expect, test } from "bun:test";
import { LISTENER_DEFAULTS } from "../../src/config/configuration.ts";
import { readConfiguration } from "../../src/config/read.ts";
import { formatPattern } from "../../src/model/address.ts";
import type { Action } from "../../src/routing/draft.ts";
import { faultsOf, marked } from "./faults.ts";

const FILE = "/etc/socketbox.conf";

function draftOf(text: string) {
  const { configuration, diagnostics } = readConfiguration(FILE, text);
  if (!configuration) throw new Error(JSON.stringify(diagnostics));
  return configuration.draft;
}

function shownAction(action: Action): string {
  if (action.kind === "target") return action.target.name;
  return action.kind === "table" ? `table ${action.table}` : "deny";
}

/** Table by table, each route on one line: what it compares, and where it leads. */
function shown(text: string): Record<string, string[]> {
  return Object.fromEntries(
    draftOf(text).tables.map(({ name, routes }) => [
      name,
      routes.map(({ local, localPorts, remote, remotePorts, action }) => {
        const parts = [
          ...local.map((pattern) => `local ${formatPattern(pattern)}`),
          ...localPorts.map(({ first, last }) => `port ${first}-${last}`),
          ...remote.map((pattern) => `remote ${formatPattern(pattern)}`),
          ...remotePorts.map(({ first, last }) => `rport ${first}-${last}`),
        ];
        return [...parts, shownAction(action)].join(", ");
      }),
    ]),
  );
}

/** The text is wrong at its mark, and nowhere else. */
function expectFault(written: string, message: string): void {
  const { text, places } = marked(written);
  expect(faultsOf(FILE, text)).toEqual([`${places[0]}: ${message}`]);
}

/** An example that uses every token of the language once at least. */
const EXAMPLE = `max-maps:1
max-rules:2
map-set:0 size:3
match-lip:128
match-lport
ip:2001:db8::1 port:22 jump-unix:/run/a/ssh
ip:2001:db8::1 port:80 jump-unix:/run/a/web
default jump-rule:1
rule-set:0 size:2
rip:2001:db8:bad::/48 fail
ip:2001:db8::/64 jump-map:0
rule-set:1 size:1
ip:::/::ffff:ffff:ffff:ffff jump-unix:/run/b/any
default fail
`;

describe("the format", () => {
  test("the example of its documentation is read unchanged, and without a warning", () => {
    expect(faultsOf(FILE, EXAMPLE)).toEqual([]);
    expect(shown(EXAMPLE)).toEqual({
      "rule-set 0": ["remote 2001:db8:bad::/48, deny", "local 2001:db8::/64, table map-set 0"],
      "map-set 0": [
        "local 2001:db8::1, port 22-22, unix:/run/a/ssh",
        "local 2001:db8::1, port 80-80, unix:/run/a/web",
        "table rule-set 1",
      ],
      "rule-set 1": ["local ::/::ffff:ffff:ffff:ffff, unix:/run/b/any", "deny"],
    });
  });

  test("says nothing of listeners and of the server: they are the command line's", () => {
    const { configuration } = readConfiguration(FILE, EXAMPLE);
    expect(configuration?.listeners).toEqual([LISTENER_DEFAULTS]);
    expect(configuration?.server).toEqual({ workers: 1 });
  });

  test.each([
    ["ip:2001:db8::1", "local 2001:db8::1"],
    ["ip:::ffff:192.0.2.1", "local 192.0.2.1"],
    ["ip:192.0.2.1", "local 192.0.2.1"],
    ["ip:10.0.0.0/8", "local 10.0.0.0/8"],
    ["ip:10.0.0.0/255.0.0.0", "local 10.0.0.0/8"],
    ["ip:2001:db8::/32", "local 2001:db8::/32"],
    ["ip:2001:db8::/ffff:ffff::", "local 2001:db8::/32"],
    ["ip:::5/::ffff:ffff:ffff:ffff", "local ::5/::ffff:ffff:ffff:ffff"],
    ["ip:::/0", "local ::/0"],
    ["rip:2001:db8::/::ff", "remote ::/::ff"],
    ["rip:fe80::/10", "remote fe80::/10"],
    ["port:1", "port 1-1"],
    ["port:65535", "port 65535-65535"],
    ["rport:1024", "rport 1024-1024"],
    ["ip:::1 rip:::2 port:3 rport:4", "local ::1, port 3-3, remote ::2, rport 4-4"],
    ["rport:4 port:3 rip:::2 ip:::1", "local ::1, port 3-3, remote ::2, rport 4-4"],
  ])("%s compares %s", (match, compared) => {
    const [route] = Object.values(shown(`rule-set:0\n${match} fail`)).flat();
    expect(route).toBe(`${compared}, deny`);
  });

  test.each([
    ["jump-unix:/run/a", "unix:/run/a"],
    ["jump-unix:@abstract", "unix:@abstract"],
    ["jump-unix:/run/a:b", "unix:/run/a:b"],
    ["jump-unix:/run/#//0_#//P_", "unix:/run/#//0_#//P_"],
    ["jump-unix:/run/{port}", "unix:/run/{port}"],
    ["jump-fd:0", "fd:0"],
    ["jump-fd:3", "fd:3"],
    ["fail", "deny"],
  ])("%s goes to %s", (action, to) => {
    expect(shown(`rule-set:0\n${action}`)).toEqual({ "rule-set 0": [to] });
    expect(shown(`rule-set:0\nport:1 fail\ndefault ${action}`)["rule-set 0"]).toEqual(["port 1-1, deny", to]);
  });

  test("a path with braces is taken as it stands: templates are TOML's", () => {
    const [route] = draftOf("rule-set:0\njump-unix:/run/{port}").tables[0]!.routes;
    expect(route!.action).toMatchObject({ target: { receivers: [{ kind: "unix", path: "/run/{port}" }] } });
    expect(route!.action).not.toHaveProperty("target.receivers.0.fill");
  });

  test("the action may stand before what the entry matches", () => {
    expect(shown("rule-set:0\nfail port:80")).toEqual({ "rule-set 0": ["port 80-80, deny"] });
  });

  test("a default holds for what nothing else takes, wherever it stands", () => {
    expect(shown("rule-set:0\ndefault jump-unix:/b\nport:80 jump-unix:/a")).toEqual({
      "rule-set 0": ["port 80-80, unix:/a", "unix:/b"],
    });
  });

  test("lookups start in rule list 0, wherever the file opens it", () => {
    expect(draftOf("rule-set:1\nfail\nrule-set:0\njump-rule:1").tables.map(({ name }) => name)).toEqual([
      "rule-set 0",
      "rule-set 1",
    ]);
  });

  test("a list that is opened again goes on where it was left", () => {
    const text = "rule-set:0\nport:1 jump-rule:1\nrule-set:1\nfail\nrule-set:0\nport:2 jump-unix:/a";
    expect(shown(text)["rule-set 0"]).toEqual(["port 1-1, table rule-set 1", "port 2-2, unix:/a"]);
  });

  test("tokens are separated by any number of spaces and tabs, at the ends of a line too", () => {
    expect(shown("\t rule-set:0 \t size:1\t\n  ip:::1\t \tport:80\t\tfail \t")).toEqual({
      "rule-set 0": ["local ::1, port 80-80, deny"],
    });
  });

  test("lines that begin with # and empty lines say nothing, and a file need not end with a line end", () => {
    expect(shown("# a\n\n#rule-set:7 nonsense\nrule-set:0\n \t\nfail")).toEqual({ "rule-set 0": ["deny"] });
  });

  test("every capacity may be there or not, anywhere in the file, and both may share a line", () => {
    const plain = shown("rule-set:0\nfail");
    for (const text of [
      "max-maps:1000 max-rules:1000\nrule-set:0 size:1000\nfail",
      "rule-set:0\nsize:1\nfail\nmax-rules:1",
      "rule-set:0\nmax-maps:1\nfail\nsize:7",
    ]) {
      expect(shown(text)).toEqual(plain);
      expect(faultsOf(FILE, text)).toEqual([]);
    }
  });
});

describe("maps", () => {
  const map = (key: string, ...entries: string[]) =>
    shown(["rule-set:0", "jump-map:3", "map-set:3", key, ...entries].join("\n"))["map-set 3"];

  test.each([
    ["match-lip:128", "ip:2001:db8::1", "local 2001:db8::1"],
    ["match-lip:64", "ip:2001:db8::", "local 2001:db8::/64"],
    ["match-rip:48", "rip:2001:db8::", "remote 2001:db8::/48"],
    ["match-rip:120", "rip:192.0.2.0", "remote 192.0.2.0/24"],
    ["match-lport", "port:80", "port 80-80"],
    ["match-rport", "rport:80", "rport 80-80"],
    [
      "match-lip:128 match-rip:128 match-lport match-rport",
      "rport:4 rip:::2 port:3 ip:::1",
      "local ::1, port 3-3, remote ::2, rport 4-4",
    ],
  ])("%s compares exactly that of %s", (key, entry, compared) => {
    expect(map(key, `${entry} fail`)).toEqual([`${compared}, deny`]);
  });

  test("match-… may stand on one line or on several, also behind the entries", () => {
    const together = map("match-lip:128 match-lport", "ip:::1 port:80 fail");
    expect(map("match-lip:128\nmatch-lport", "ip:::1 port:80 fail")).toEqual(together);
    expect(map("match-lip:128", "ip:::1 port:80 fail", "match-lport")).toEqual(together);
  });

  test("bits and words that the map does not compare are warned of, and not compared", () => {
    const text = "rule-set:0\njump-map:0\nmap-set:0\nmatch-lip:64\nip:2001:db8::1 port:80 fail";
    expect(shown(text)["map-set 0"]).toEqual(["local 2001:db8::/64, deny"]);
    expect(faultsOf(FILE, text)).toEqual([
      "5:4: warning: ip 2001:db8::1/64 has bits that its mask does not compare; expected 2001:db8::/64",
      "5:21: warning: map 0 does not compare port; expected match-lport in the map, or an entry without port",
    ]);
  });

  test("an entry that leaves out part of the key is warned of", () => {
    expectFault(
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-lip:64\nmatch-lport\n»port:1 fail",
      "warning: the entry has no ip, which map 0 compares; expected ip:ADDRESS, or this entry fits whatever it is",
    );
  });
});

describe("jumps", () => {
  test.each([
    ["rule list to rule list", "rule-set:0\nport:1 jump-rule:1\nrule-set:1", ["table rule-set 1"]],
    ["rule list to map", "rule-set:0\nport:1 jump-map:0\nmap-set:0\nmatch-lport", ["table map-set 0"]],
    [
      "map to rule list",
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-lport\nport:1 jump-rule:1\nrule-set:1",
      ["table rule-set 1"],
    ],
    [
      "map to map",
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-lport\nport:1 jump-map:1\nmap-set:1\nmatch-rport",
      ["table map-set 1"],
    ],
  ])("go from %s", (_, head, [to]) => {
    const text = `${head}\n${head.endsWith("match-rport") ? "rport:1" : "port:1"} jump-unix:/a`;
    expect(faultsOf(FILE, text)).toEqual([]);
    expect(Object.values(shown(text)).flat()).toContain(`port 1-1, ${to}`);
  });

  test.each(["rule", "map"])("a default jumps to a %s as an entry does", (kind) => {
    const text = `rule-set:0\nport:1 fail\ndefault jump-${kind}:1\n${kind}-set:1\n${kind === "map" ? "match-lport\n" : ""}port:2 fail`;
    expect(faultsOf(FILE, text)).toEqual([]);
    expect(shown(text)["rule-set 0"]).toEqual(["port 1-1, deny", `table ${kind}-set 1`]);
  });

  test("several entries, maps and lists may jump to one and the same", () => {
    const text =
      "rule-set:0\nport:1 jump-rule:2\nport:2 jump-map:0\nport:3 jump-rule:2\nmap-set:0\nmatch-lport\nport:2 jump-rule:2\nrule-set:2\nfail";
    expect(faultsOf(FILE, text)).toEqual([]);
  });

  test("a hundred in a row are not too many, nor a thousand", () => {
    const lists = Array.from({ length: 999 }, (_, n) => `rule-set:${n}\njump-rule:${n + 1}`);
    expect(faultsOf(FILE, [...lists, "rule-set:999\nfail"].join("\n"))).toEqual([]);
  });
});

/** By the numbers of the hazards of the original: what it took by accident, or died of. */
describe("hazards", () => {
  test("C1: one entry more than its size, and a list without a size, are no reason to fail", () => {
    expect(shown("rule-set:0 size:1\nport:1 fail\nport:2 fail\nport:3 fail")["rule-set 0"]).toHaveLength(3);
    expect(shown("rule-set:0\nport:1 fail")["rule-set 0"]).toHaveLength(1);
  });

  test.each([
    [
      "»jump:a",
      '"jump:a" is not a word of this format; expected jump-unix:PATH, jump-fd:N, jump-rule:N, jump-map:N',
    ],
    ["»p:80 fail", '"p:80" is not a word of this format; expected port:N'],
    ["»fail:now", '"fail:now" takes no value; expected fail'],
    ["»default:1 fail", '"default:1" takes no value; expected default'],
    ["»port", '"port" has no value; expected port:N'],
    ["»ip: fail", '"ip:" has no value; expected ip:ADDRESS'],
    ["»jump-unix:", '"jump-unix:" has no value; expected jump-unix:PATH'],
  ])("C2: a name counts whole: %s", (line, message) => {
    expectFault(`rule-set:0\n${line}`, `error: ${message}`);
  });

  test("C2: match-lport takes no value, match-lip needs one, and what the map compares is then no further error", () => {
    const start = "rule-set:0\njump-map:0\nmap-set:0\n";
    expectFault(
      `${start}»match-lport:1\nport:80 fail`,
      'error: "match-lport:1" takes no value; expected match-lport',
    );
    expectFault(
      `${start}»match-lip\nip:::1 fail`,
      'error: "match-lip" has no value; expected match-lip:LENGTH',
    );
  });

  test("C3: a tab separates words as a space does, and nothing behind it is dropped", () => {
    expect(shown("rule-set:0\nip:::1\tport:80\tfail")).toEqual({
      "rule-set 0": ["local ::1, port 80-80, deny"],
    });
    expectFault(
      "rule-set:0\nip:::1\tport:»abc\tfail",
      'error: port "abc" is not a plain decimal number; expected 1 to 65535',
    );
  });

  test.each([
    ["port:»65616 fail", "port 65616 is out of range; expected 1 to 65535"],
    ["port:»abc fail", 'port "abc" is not a plain decimal number; expected 1 to 65535'],
    ["port:»8000-8010 fail", 'port "8000-8010" is not a plain decimal number; expected 1 to 65535'],
    ["port:»0 fail", "port 0 is out of range; expected 1 to 65535"],
    ["port:»080 fail", 'port "080" is not a plain decimal number; expected 1 to 65535'],
    ["rport:»-1 fail", 'rport "-1" is not a plain decimal number; expected 1 to 65535'],
    ["rport:»1e3 fail", 'rport "1e3" is not a plain decimal number; expected 1 to 65535'],
    ["ip:»2001:db8::/64x fail", 'ip mask length "64x" is not a plain decimal number; expected 0 to 128'],
    ["ip:»2001:db8::/129 fail", "ip mask length 129 is out of range; expected 0 to 128"],
    ["ip:»192.0.2.0/33 fail", "ip mask length 33 is out of range; expected 0 to 32"],
    [
      "rip:»2001:db8::g fail",
      'rip "2001:db8::g" is not an address; expected an IPv6 or a dotted IPv4 address',
    ],
    ["jump-fd:»x", 'descriptor "x" is not a plain decimal number; expected 0 to 2147483647'],
    ["jump-fd:»2147483648", "descriptor 2147483648 is out of range; expected 0 to 2147483647"],
    ["jump-rule:»1000", "jump-rule 1000 is out of range; expected 0 to 999"],
    ["jump-map:»0x1", 'jump-map "0x1" is not a plain decimal number; expected 0 to 999'],
  ])("C4: a number is one, whole and in range: %s", (line, message) => {
    expectFault(`rule-set:0\n${line}`, `error: ${message}`);
  });

  test.each([
    ["max-maps:»0", "max-maps 0 is out of range; expected 1 to 1000"],
    ["max-rules:»1001", "max-rules 1001 is out of range; expected 1 to 1000"],
    ["rule-set:»1000", "rule-set 1000 is out of range; expected 0 to 999"],
    ["map-set:»x", 'map-set "x" is not a plain decimal number; expected 0 to 999'],
    ["rule-set:0 size:»0", "size 0 is out of range; expected 1 to 1000"],
    ["rule-set:0 size:»1001", "size 1001 is out of range; expected 1 to 1000"],
  ])("C4: so are capacities and numbers of sets: %s", (line, message) => {
    expectFault(`rule-set:0\nfail\n${line}`, `error: ${message}`);
  });

  test("C5: 100,000 entries are loaded, each with its own verdict", () => {
    const entries = Array.from(
      { length: 100_000 },
      (_, n) => `ip:2001:db8::${(n >> 8).toString(16)}:${(n & 255).toString(16)} jump-unix:/run/${n % 7}`,
    );
    const { configuration, diagnostics } = readConfiguration(
      FILE,
      ["rule-set:0 size:1000", ...entries].join("\n"),
    );
    expect(diagnostics).toEqual([]);
    expect(configuration?.draft.tables[0]?.routes).toHaveLength(100_000);
  });

  describe("C6: what means nothing is refused", () => {
    const noStart = "1:1: error: there is no rule list 0, where every lookup starts; expected rule-set:0";

    test.each(["", "\n", "# only a comment\n", "rule-set:1\nfail\n", "max-maps:1\n"])(
      "%p has no start",
      (text) => {
        expect(faultsOf(FILE, text)).toEqual([noStart]);
      },
    );

    test("a start without entries", () => {
      expectFault(
        "»rule-set:0\nrule-set:1\nfail",
        "error: rule list 0 has no entries; expected at least one",
      );
    });

    test("a jump to a map or list that is not there", () => {
      expectFault(
        "rule-set:0\njump-rule:»5",
        "error: there is no rule list 5; expected rule-set:5 somewhere in the file",
      );
      expectFault(
        "rule-set:0\njump-map:»5",
        "error: there is no map 5; expected map-set:5 somewhere in the file",
      );
    });

    test("a circle of jumps, through maps too", () => {
      expectFault("rule-set:0\n»jump-rule:0", "error: tables rule-set 0 -> rule-set 0 jump in a circle");
      expectFault(
        "rule-set:0\nport:1 jump-map:0\nmap-set:0\nmatch-lport\n»port:1 jump-rule:0",
        "error: tables rule-set 0 -> map-set 0 -> rule-set 0 jump in a circle",
      );
    });

    test("a path over 107 bytes, counted in bytes; one of 107 is taken", () => {
      const longest = `/${"ü".repeat(53)}`;
      expect(shown(`rule-set:0\njump-unix:${longest}`)).toEqual({ "rule-set 0": [`unix:${longest}`] });
      const { text, places } = marked(`rule-set:0\njump-unix:»${longest}x`);
      expect(faultsOf(FILE, text)).toEqual([
        `${places[0]}: error: path "${longest}x" has 108 bytes; expected at most 107`,
      ]);
    });

    test("CRLF line ends, said once", () => {
      expectFault(
        "rule-set:0»\r\nport:80 fail\r\n",
        "error: the line ends with a carriage return; expected LF alone as the end of lines",
      );
    });
  });

  test("C8: a map that compares nothing", () => {
    expectFault(
      "rule-set:0\njump-map:0\n»map-set:0\nport:1 fail",
      "error: map 0 compares nothing; expected one of match-lip:LENGTH, match-rip:LENGTH, match-lport, match-rport",
    );
  });

  test("C8: one key twice in a map, also when only the bits differ that the map does not compare", () => {
    const start = "rule-set:0\njump-map:0\nmap-set:0\n";
    expectFault(
      `${start}match-lport\nport:1 fail\n»port:1 jump-unix:/a`,
      "error: the same key as on line 5; expected each key once in a map",
    );
    expect(faultsOf(FILE, `${start}match-lip:64\nip:2001:db8::1 fail\nip:2001:db8::2 fail`)).toContain(
      "6:1: error: the same key as on line 5; expected each key once in a map",
    );
  });
});

describe("what is wrong with an entry or a set", () => {
  test.each([
    ["rule-set:0\njump-unix:/a »fail", '"fail" is a second action; expected one in each entry'],
    ["rule-set:0\nip:::1 »ip:::2 fail", "a second ip; expected one in each entry"],
    ["rule-set:0\nfail »fail", "a second fail; expected one in each entry"],
    [
      "rule-set:0\n»port:80",
      "the entry has no action; expected one of jump-unix:PATH, jump-fd:N, jump-rule:N, jump-map:N, fail",
    ],
    [
      "rule-set:0\n»default",
      "the entry has no action; expected one of jump-unix:PATH, jump-fd:N, jump-rule:N, jump-map:N, fail",
    ],
    [
      "rule-set:0\ndefault »port:80 fail",
      '"port:80" stands in a default, which matches everything; expected jump-unix:PATH, jump-fd:N, jump-rule:N, jump-map:N, fail',
    ],
    [
      "rule-set:0\nport:80 »default fail",
      '"default" is not the first word; expected default, then an action',
    ],
    [
      "rule-set:0\ndefault fail\n»default fail",
      "a second default in rule list 0; expected one, and it holds wherever it stands",
    ],
    ["»fail\nrule-set:0\nfail", "an entry outside any rule list or map; expected rule-set:0 before it"],
    ["max-rules:1 »max-rules:1\nrule-set:0\nfail", "a second max-rules; expected one in a file"],
    [
      "max-rules:1\nrule-set:0\nfail\nrule-set:»1\nfail",
      "rule list 1 is beyond max-rules:1; expected 0 to 0",
    ],
    ["max-maps:2\nrule-set:0\njump-map:»2", "map 2 is beyond max-maps:2; expected 0 to 1"],
    ["rule-set:0 size:1\n»size:2\nfail", "a second size of rule list 0; expected one for each"],
    [
      "»size:2\nrule-set:0\nfail",
      "a size outside any rule list or map; expected rule-set:N or map-set:N before it",
    ],
    [
      "rule-set:0\nport:80 »size:3 fail",
      '"size:3" stands in an entry; expected ip:ADDRESS, rip:ADDRESS, port:N, rport:N, jump-unix:PATH, jump-fd:N, jump-rule:N, jump-map:N, fail',
    ],
    ["rule-set:0 »ip:::1\nfail", '"ip:::1" behind "rule-set:0"; expected size:N or the end of the line'],
    ["rule-set:0\n»match-lip:3\nfail", "match-lip outside a map; expected map-set:N before it"],
    [
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-lip:»0\nip:::1 fail",
      "match-lip 0 is out of range; expected 1 to 128",
    ],
    [
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-rip:»129\nrip:::1 fail",
      "match-rip 129 is out of range; expected 1 to 128",
    ],
    [
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-lport »match-lport\nport:1 fail",
      "a second match-lport in map 0; expected one in each map",
    ],
    [
      "rule-set:0\njump-map:0\nmap-set:0\nmatch-lip:64\nip:»2001:db8::/64 fail",
      'ip "2001:db8::/64" has a mask; expected an address alone: match-lip and match-rip are its mask',
    ],
    [
      "rule-set:0\nip:»2001:db8::/255.0.0.0 fail",
      'ip mask "255.0.0.0" does not fit the address; expected a length, 0 to 128, or a mask as an IPv6 address',
    ],
    [
      "rule-set:0\nip:»10.0.0.0/ff:: fail",
      'ip mask "ff::" does not fit the address; expected a length, 0 to 32, or a dotted mask',
    ],
    [
      "rule-set:0\njump-unix:»/a\u0007b",
      'path "/a\\u{7}b" has a control character; expected characters that can be seen',
    ],
    ["rule-set:0\njump-unix:»@", 'path "@" names nothing; expected /path or @name'],
    ["»rule-set:\nfail", '"rule-set:" has no value; expected rule-set:N'],
    ["»\ufeffrule-set:0\nfail", "the file begins with a byte order mark; expected UTF-8 without one"],
    [
      "»\ufeff# nothing\nrule-set:0\nfail",
      "the file begins with a byte order mark; expected UTF-8 without one",
    ],
    [
      "rule-set:0\ndefault fail »# why it fails",
      'a comment does not begin its line; expected "#" as the first character of a line',
    ],
    [
      "rule-set:0\n  »#why it fails\nfail",
      'a comment does not begin its line; expected "#" as the first character of a line',
    ],
  ])("%j", (written, message) => {
    const { text, places } = marked(written);
    const faults = faultsOf(FILE, text);
    expect(faults[0]).toBe(`${places[0]}: error: ${message}`);
    expect(faults).toHaveLength(1);
  });

  test("every error is said at once, circles too, in the order of the file", () => {
    const { text, places } = marked(
      "»size:1\nrule-set:0\nport:»0 ip:»x fail\n»jump:a\nport:1 jump-rule:1\nrule-set:1\n»jump-rule:0\njump-map:»7\n»port:5",
    );
    const found = faultsOf(FILE, text).map((fault) => fault.slice(0, fault.indexOf(" ") - 1));
    expect(found).toEqual(places);
  });
});

describe("warnings", () => {
  test.each([
    [
      "ip:»2001:db8::1/64 fail",
      "ip 2001:db8::1/64 has bits that its mask does not compare; expected 2001:db8::/64",
    ],
    [
      "rip:»192.0.2.1/24 fail",
      "rip 192.0.2.1/24 has bits that its mask does not compare; expected 192.0.2.0/24",
    ],
    [
      "ip:»5::5/::ffff:ffff:ffff:ffff fail",
      "ip 5::5/::ffff:ffff:ffff:ffff has bits that its mask does not compare; expected ::5/::ffff:ffff:ffff:ffff",
    ],
    [
      "jump-unix:»run/a",
      'path "run/a" is relative; expected /path: a server that changes its folder looks elsewhere',
    ],
    ["fail\n»port:80 fail", `this route is never reached: ${FILE}:2:1 takes all that it would`],
    ["fail\n»rule-set:1\nfail", "no jump leads from table rule-set 0 to table rule-set 1"],
  ])("%s", (lines, message) => {
    expectFault(`rule-set:0\n${lines}`, `warning: ${message}`);
  });

  test("65 shapes are one too many to be silent about, 64 are not", () => {
    const entries = (count: number) =>
      Array.from({ length: count }, (_, n) => `ip:::/${n + 1} port:80 jump-unix:/run/${n}`).reverse();
    expect(faultsOf(FILE, ["rule-set:0", ...entries(64)].join("\n"))).toEqual([]);
    expect(faultsOf(FILE, ["rule-set:0", ...entries(65)].join("\n"))).toEqual([
      "1:1: warning: table rule-set 0 compares flows in 65 different ways, and each costs a search; expected at most 64: fewer prefix lengths, rounder port ranges",
    ]);
  });
});
