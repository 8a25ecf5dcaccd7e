/** Each routing case is written once, and holds whichever way it reaches the table. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readConfiguration } from "../../src/config/read.ts";
import { compile } from "../../src/routing/compile.ts";
import type { Draft } from "../../src/routing/draft.ts";
import { route as lookUp } from "../../src/routing/match.ts";
import { flowWords } from "../../src/routing/record.ts";
import { DENIED, NO_ROUTE } from "../../src/routing/table.ts";
import { draft, flow, pattern, port, route } from "../routing/drafts.ts";
import { interpret } from "../routing/interpreter.ts";

/** What it leaves out, it does not compare. `to` is `deny`, `table:N` or a path. */
interface Rule {
  readonly local?: string;
  readonly port?: number;
  readonly remote?: string;
  readonly remotePort?: number;
  readonly to: string;
}

/** Tables by number; lookups start in the first. */
type Rules = readonly (readonly Rule[])[];

type Question = Parameters<typeof flow>[0];

function handBuilt(tables: Rules): Draft {
  const named = tables.map((rules, n) => {
    const routes = rules.map(({ to, local, remote, port: localPort, remotePort }) =>
      route(to.replace(/^table:/, "table:t"), {
        ...(local !== undefined && { local: [pattern(local)] }),
        ...(localPort !== undefined && { localPorts: [port(localPort)] }),
        ...(remote !== undefined && { remote: [pattern(remote)] }),
        ...(remotePort !== undefined && { remotePorts: [port(remotePort)] }),
      }),
    );
    return [`t${n}`, routes] as const;
  });
  return draft(Object.fromEntries(named));
}

function inToml(tables: Rules): string {
  const texts = tables.map((rules, n) =>
    rules.map(({ to, local, port, remote, remotePort }) =>
      [
        n === 0 ? "[[route]]" : `[[table.${n}.route]]`,
        ...(local === undefined ? [] : [`local = "${local}"`]),
        ...(port === undefined ? [] : [`port = ${port}`]),
        ...(remote === undefined ? [] : [`remote = "${remote}"`]),
        ...(remotePort === undefined ? [] : [`remote-port = ${remotePort}`]),
        `to = "${to.startsWith("/") ? `unix:${to}` : to}"\n`,
      ].join("\n"),
    ),
  );
  return texts.flat().join("\n");
}

/** A last rule that matches everything is the default; in a list of one it is an entry like any other. */
function inLines(tables: Rules): string {
  const lines = tables.map((rules, n) => [
    `rule-set:${n}`,
    ...rules.map(({ to, local, port, remote, remotePort }, i) => {
      const matches = [
        ...(local === undefined ? [] : [`ip:${local}`]),
        ...(port === undefined ? [] : [`port:${port}`]),
        ...(remote === undefined ? [] : [`rip:${remote}`]),
        ...(remotePort === undefined ? [] : [`rport:${remotePort}`]),
      ];
      const action = to.startsWith("/")
        ? `jump-unix:${to}`
        : to.replace(/^table:/, "jump-rule:").replace("deny", "fail");
      const isDefault = matches.length === 0 && i > 0 && i === rules.length - 1;
      return [...(isDefault ? ["default"] : matches), action].join(i % 2 ? "\t" : " ");
    }),
  ]);
  return lines.flat().join("\n");
}

function read(file: string, text: string): Draft {
  const { configuration, diagnostics } = readConfiguration(file, text);
  if (!configuration) throw new Error(`${JSON.stringify(diagnostics)} in\n${text}`);
  return configuration.draft;
}

const FRONT_ENDS: readonly (readonly [string, (tables: Rules) => Draft])[] = [
  ["a draft built by hand", handBuilt],
  ["TOML", (tables) => read("case.toml", inToml(tables))],
  ["the line format", (tables) => read("case.conf", inLines(tables))],
];

/** `deny`, `none`, or a path. */
function verdict(draft: Draft, question: Question): string {
  const { table, diagnostics } = compile(draft);
  if (!table) throw new Error(JSON.stringify(diagnostics));
  const found = flow(question);
  const result = lookUp(table, flowWords(found), 0, found.listener);
  if (result === DENIED) return "deny";
  if (result === NO_ROUTE) return "none";
  const [receiver] = table.targets[result]!.receivers;
  return receiver!.kind === "unix" ? receiver!.path : receiver!.kind;
}

const A = "2001:db8::a";
const B = "2001:db8::b";

const CASES: readonly (readonly [string, Rules, readonly (readonly [Question, string])[]])[] = [
  [
    "the first rule that fits is taken",
    [[{ port: 80, to: "/first" }, { local: A, to: "/second" }, { to: "/third" }]],
    [
      [{ local: A, localPort: 80 }, "/first"],
      [{ local: A, localPort: 81 }, "/second"],
      [{ local: B, localPort: 81 }, "/third"],
    ],
  ],
  [
    "an earlier wide rule beats a later narrow one",
    [
      [
        { local: "2001:db8::/32", to: "/wide" },
        { local: A, port: 80, to: "/narrow" },
      ],
    ],
    [[{ local: A, localPort: 80 }, "/wide"]],
  ],
  [
    "what fits nothing has no route",
    [[{ local: A, to: "/a" }]],
    [
      [{ local: A }, "/a"],
      [{ local: B }, "none"],
    ],
  ],
  [
    "a refusal is not the same as no route",
    [
      [
        { remote: "2001:db8:bad::/48", to: "deny" },
        { local: A, to: "/a" },
      ],
    ],
    [
      [{ local: A, remote: "2001:db8:bad:1::1" }, "deny"],
      [{ local: A, remote: "2001:db8:900d::1" }, "/a"],
      [{ local: B, remote: "2001:db8:900d::1" }, "none"],
    ],
  ],
  [
    "all four parts must fit",
    [[{ local: A, port: 22, remote: B, remotePort: 1024, to: "/all" }]],
    [
      [{ local: A, localPort: 22, remote: B, remotePort: 1024 }, "/all"],
      [{ local: B, localPort: 22, remote: B, remotePort: 1024 }, "none"],
      [{ local: A, localPort: 23, remote: B, remotePort: 1024 }, "none"],
      [{ local: A, localPort: 22, remote: A, remotePort: 1024 }, "none"],
      [{ local: A, localPort: 22, remote: B, remotePort: 1025 }, "none"],
    ],
  ],
  [
    "prefixes end on any bit",
    [
      [
        { local: "2001:db8:8000::/33", to: "/upper" },
        { local: "2001:db8::/33", to: "/lower" },
      ],
    ],
    [
      [{ local: "2001:db8:ffff:ffff::1" }, "/upper"],
      [{ local: "2001:db8:7fff:ffff::1" }, "/lower"],
      [{ local: "2001:db9::1" }, "none"],
    ],
  ],
  [
    "a mask compares a host part under any prefix",
    [[{ local: "::5/::ffff:ffff:ffff:ffff", to: "/host" }]],
    [
      [{ local: "2001:db8:1:2::5" }, "/host"],
      [{ local: "fe80::5" }, "/host"],
      [{ local: "2001:db8:1:2:1::5" }, "none"],
    ],
  ],
  [
    "IPv4 written plainly means its mapped form",
    [
      [
        { local: "192.0.2.1", to: "/one" },
        { local: "10.0.0.0/8", to: "/eight" },
        { local: "::ffff:198.51.100.0/120", to: "/mapped" },
        { local: "::/0", to: "/rest" },
      ],
    ],
    [
      [{ local: "::ffff:192.0.2.1" }, "/one"],
      [{ local: "10.255.0.1" }, "/eight"],
      [{ local: "198.51.100.77" }, "/mapped"],
      [{ local: "::10.0.0.1" }, "/rest"],
      [{ local: "192.0.2.2" }, "/rest"],
    ],
  ],
  [
    "a jump goes on in another table, and does not come back",
    [[{ port: 22, to: "table:1" }, { to: "/web" }], [{ local: A, to: "/ssh" }]],
    [
      [{ local: A, localPort: 22 }, "/ssh"],
      [{ local: B, localPort: 22 }, "none"],
      [{ local: B, localPort: 80 }, "/web"],
    ],
  ],
  [
    "jumps lead through several tables, and several lead to one",
    [
      [{ port: 22, to: "table:1" }, { port: 23, to: "table:2" }, { to: "deny" }],
      [{ remote: B, to: "deny" }, { to: "table:2" }],
      [{ local: A, to: "/a" }, { to: "/any" }],
    ],
    [
      [{ local: A, localPort: 22, remote: A }, "/a"],
      [{ local: A, localPort: 22, remote: B }, "deny"],
      [{ local: B, localPort: 23, remote: B }, "/any"],
      [{ local: B, localPort: 24 }, "deny"],
    ],
  ],
  [
    "the first and the last port are ports like any other",
    [
      [
        { port: 1, to: "/1" },
        { port: 65535, to: "/65535" },
        { remotePort: 65535, to: "/r" },
      ],
    ],
    [
      [{ localPort: 1 }, "/1"],
      [{ localPort: 65535 }, "/65535"],
      [{ localPort: 2, remotePort: 65535 }, "/r"],
      [{ localPort: 2, remotePort: 1 }, "none"],
    ],
  ],
];

describe.each(FRONT_ENDS)("through %s", (_, frontEnd) => {
  test.each(CASES)("%s", (_, tables, questions) => {
    const made = frontEnd(tables);
    for (const [question, expected] of questions) {
      expect(`${JSON.stringify(question)} ${verdict(made, question)}`).toBe(
        `${JSON.stringify(question)} ${expected}`,
      );
    }
  });
});

const ADDRESSES = [
  "2001:db8::1",
  "2001:db8::2",
  "2001:db8:0:1::1",
  "2001:db8:8000::1",
  "fe80::1",
  "::",
  "192.0.2.1",
  "10.0.0.1",
];
const PATTERNS = [
  ...ADDRESSES,
  ...[
    "2001:db8::/32",
    "2001:db8::/33",
    "2001:db8::/64",
    "::1/::ffff:ffff:ffff:ffff",
    "::/0",
    "192.0.2.0/24",
    "10.0.0.0/8",
  ],
];
const PORTS = [1, 22, 80, 443, 65535];

const address = fc.constantFrom(...ADDRESSES);
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

/** Jumps lead to later tables only, so that there are no circles. */
function anyRule(index: number, tables: number): fc.Arbitrary<Rule> {
  const later = Array.from({ length: tables - index - 1 }, (_, n) => `table:${index + 1 + n}`);
  return fc
    .record({
      local: maybe(fc.constantFrom(...PATTERNS)),
      port: maybe(fc.constantFrom(...PORTS)),
      remote: maybe(fc.constantFrom(...PATTERNS)),
      remotePort: maybe(fc.constantFrom(...PORTS)),
      to: fc.constantFrom("deny", "/run/a", "/run/b", "/run/c", ...later),
    })
    .map(
      (rule) =>
        Object.fromEntries(
          Object.entries(rule).filter(([, value]) => value !== undefined),
        ) as unknown as Rule,
    );
}

const anyRules: fc.Arbitrary<Rules> = fc
  .integer({ min: 1, max: 4 })
  .chain((count) =>
    fc.tuple(
      ...Array.from({ length: count }, (_, n) => fc.array(anyRule(n, count), { minLength: 1, maxLength: 6 })),
    ),
  );

const anyQuestion = fc.record({
  local: address,
  localPort: fc.constantFrom(...PORTS, 8080),
  remote: address,
  remotePort: fc.constantFrom(...PORTS, 8080),
});

describe("random rules", () => {
  test("mean the same in the line format and in TOML, and what the interpreter makes of them", () => {
    const property = fc.property(
      anyRules,
      fc.array(anyQuestion, { minLength: 1, maxLength: 20 }),
      (tables, questions) => {
        const [byHand, toml, lines] = FRONT_ENDS.map(([, frontEnd]) => frontEnd(tables)) as [
          Draft,
          Draft,
          Draft,
        ];
        for (const question of questions) {
          const action = interpret(byHand, flow(question)).at(-1)!.route?.action;
          const truth =
            action?.kind === "target" ? action.target.name.slice("unix:".length) : (action?.kind ?? "none");
          expect([verdict(toml, question), verdict(lines, question)]).toEqual([truth, truth]);
        }
      },
    );
    fc.assert(property, { numRuns: 400 });
  });

  test("a map means the same as its entries as routes in TOML, in any order", () => {
    const map = fc
      .record({
        length: fc.constantFrom(32, 33, 64, 128),
        withPort: fc.boolean(),
        entries: fc.uniqueArray(
          fc.tuple(address, fc.constantFrom(...PORTS), fc.constantFrom("/run/a", "/run/b")),
          {
            minLength: 1,
            maxLength: 12,
            selector: ([local, port]) => `${local} ${port}`,
          },
        ),
        fallback: fc.boolean(),
      })
      // One entry for each key, as the map compares it: the text of a mapped /64 says little.
      .map(({ length, withPort, entries, fallback }) => {
        const keys = new Set<string>();
        const distinct = entries.filter(([local, port]) => {
          const { address, mask } = pattern(`${local.includes(":") ? local : `::ffff:${local}`}/${length}`);
          const key = `${address.map((byte, i) => byte & mask[i]!).join()} ${withPort ? port : ""}`;
          return !keys.has(key) && keys.add(key);
        });
        return { length, withPort, entries: distinct, fallback };
      });
    const property = fc.property(
      map,
      fc.array(anyQuestion, { minLength: 1, maxLength: 20 }),
      (made, questions) => {
        const { length, withPort, entries, fallback } = made;
        const lines = [
          "rule-set:0",
          "jump-map:7",
          "map-set:7",
          `match-lip:${length}${withPort ? " match-lport" : ""}`,
          ...entries.map(
            ([local, port, to]) => `ip:${local} ${withPort ? `port:${port} ` : ""}jump-unix:${to}`,
          ),
          ...(fallback ? ["default jump-unix:/run/c"] : []),
        ].join("\n");
        const rules: Rule[] = entries.map(([local, port, to]) => ({
          local: `${local.includes(":") ? local : `::ffff:${local}`}/${length}`,
          ...(withPort && { port }),
          to,
        }));
        const toml = inToml([[...rules.toReversed(), ...(fallback ? [{ to: "/run/c" }] : [])]]);
        const [fromLines, fromToml] = [read("map.conf", lines), read("map.toml", toml)];
        for (const question of questions)
          expect(verdict(fromLines, question)).toBe(verdict(fromToml, question));
      },
    );
    fc.assert(property, { numRuns: 400 });
  });
});

describe("what only TOML can say", () => {
  const toml = (text: string) => read("only.toml", text);

  test("lists and ranges are alternatives", () => {
    const made = toml(`[[route]]\nlocal = ["${A}", "10.0.0.0/8"]\nport = [22, "8000-8010"]\nto = "unix:/a"`);
    for (const localPort of [22, 8000, 8005, 8010]) {
      expect(verdict(made, { local: A, localPort })).toBe("/a");
      expect(verdict(made, { local: "10.1.2.3", localPort })).toBe("/a");
      expect(verdict(made, { local: B, localPort })).toBe("none");
    }
    for (const localPort of [21, 23, 7999, 8011]) expect(verdict(made, { local: A, localPort })).toBe("none");
  });

  test("a listener is compared like a port", () => {
    const made = toml(
      '[[listen]]\nname = "a"\nport = 1\n[[listen]]\nname = "b"\nport = 2\n[[listen]]\nname = "c"\nport = 3\n[[route]]\nlistener = ["a", "c"]\nto = "unix:/ac"\n[[route]]\nto = "unix:/b"',
    );
    expect([0, 1, 2].map((listener) => verdict(made, { listener }))).toEqual(["/ac", "/b", "/ac"]);
  });
});

describe("100,000 routes", () => {
  const local = (n: number) => `2001:db8::${(n >> 16).toString(16)}:${(n & 0xffff).toString(16)}`;
  const tables: Rules = [
    [
      ...Array.from({ length: 100_000 }, (_, n) => ({ local: local(n), port: 443, to: `/run/${n % 97}` })),
      { to: "deny" },
    ],
  ];

  test.each(FRONT_ENDS)("load through %s, and each is found", (_, frontEnd) => {
    const made = frontEnd(tables);
    const { table, diagnostics } = compile(made);
    expect(diagnostics).toEqual([]);
    const ask = (question: Question) => lookUp(table!, flowWords(flow(question)), 0, 0);
    const targets = table!.targets.map(({ receivers: [to] }) => (to?.kind === "unix" ? to.path : ""));
    for (let n = 0; n < 100_000; n += 997) {
      expect(targets[ask({ local: local(n), localPort: 443 })]).toBe(`/run/${n % 97}`);
      expect(ask({ local: local(n), localPort: 444 })).toBe(DENIED);
    }
  });
});
