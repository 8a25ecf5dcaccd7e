import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { prefixMask } from "../../src/model/address.ts";
import { formatDiagnostic } from "../../src/model/diagnostic.ts";
import { compile, ENTRIES_MAX, SHAPES_MAX } from "../../src/routing/compile.ts";
import type { Draft } from "../../src/routing/draft.ts";
import { anyDraft, anyDraftAndFlows } from "./arbitrary.ts";
import { draft, pattern, port, route, target } from "./drafts.ts";
import { interpret } from "./interpreter.ts";

function lines(draft: Draft): string[] {
  return compile(draft).diagnostics.map(formatDiagnostic);
}

test("a draft without fault has a table and no diagnostics", () => {
  const { table, diagnostics } = compile(draft({ main: [route("/run/a")] }));
  expect(diagnostics).toEqual([]);
  expect(table?.targets).toEqual([target("/run/a")]);
});

test("a target that many routes share is in the table once", () => {
  const web = [route("/run/b"), route("/run/a", { localPorts: [port(1)] })].toReversed();
  const main = [route("/run/a", { localPorts: [port(2)] }), route("table:web")];
  expect(compile(draft({ main, web })).table?.targets).toEqual([target("/run/a"), target("/run/b")]);
});

test("the place of a route is not asked for unless there is something to say of it", () => {
  const costly = {
    ...route("/run/a"),
    get place(): never {
      throw new Error("asked for the place");
    },
  };
  const place = { file: "test.toml", line: 1, column: 1 };
  expect(compile({ tables: [{ name: "main", place, routes: [costly] }] }).diagnostics).toEqual([]);
});

describe("errors", () => {
  test("a draft without tables is refused", () => {
    const { table, diagnostics } = compile({ tables: [] });
    expect(table).toBeUndefined();
    expect(diagnostics.map(formatDiagnostic)).toEqual([
      "configuration: error: there is no table of routes; expected at least one",
    ]);
  });

  test("two tables of one name are refused at the second", () => {
    const [first, second] = draft({ main: [route("/run/a")], again: [route("/run/b")] }).tables;
    expect(lines({ tables: [first!, { ...second!, name: "main" }] })).toEqual([
      "test.toml:200:1: error: table main is there already, at test.toml:100:1; expected another name",
    ]);
  });

  test("a jump to a table that does not exist is refused at its route, with the names there are", () => {
    const main = [route("/run/a", { localPorts: [port(1)] }), route("table:wbe")];
    expect(lines(draft({ main, web: [] }))).toEqual([
      "test.toml:102:1: error: there is no table wbe; expected one of main, web",
    ]);
  });

  test("of many tables only the first eight are proposed", () => {
    const names = Array.from({ length: 9 }, (_, i) => `t${i}`);
    const tables = Object.fromEntries(names.map((name) => [name, [route("table:ghost")]]));
    expect(lines(draft(tables))[0]).toEndWith("expected one of t0, t1, t2, t3, t4, t5, t6, t7, …");
  });

  test("a table that jumps to itself is refused", () => {
    expect(lines(draft({ main: [route("table:main")] }))).toEqual([
      "test.toml:101:1: error: tables main -> main jump in a circle",
    ]);
  });

  test("a circle is one error that names the whole ring, at the jump that closes it", () => {
    const to = (name: string) => [route("/run/a", { localPorts: [port(1)] }), route(`table:${name}`)];
    expect(lines(draft({ main: to("a"), a: to("b"), b: to("c"), c: to("a") }))).toEqual([
      "test.toml:402:1: error: tables a -> b -> c -> a jump in a circle",
    ]);
  });

  test("a circle that no lookup can come to is refused too", () => {
    expect(lines(draft({ main: [], a: [route("table:b")], b: [route("table:a")] }))).toEqual([
      "test.toml:301:1: error: tables a -> b -> a jump in a circle",
    ]);
  });

  test("two circles through one table are two errors", () => {
    const main = [route("table:a", { localPorts: [port(1)] }), route("table:b")];
    expect(lines(draft({ main, a: [route("table:main")], b: [route("table:main")] }))).toEqual([
      "test.toml:201:1: error: tables main -> a -> main jump in a circle",
      "test.toml:301:1: error: tables main -> b -> main jump in a circle",
    ]);
  });

  test("several routes that close the same circle are one error, at the first of them", () => {
    const a = [route("table:main", { localPorts: [port(1)] }), route("table:main")];
    expect(lines(draft({ main: [route("table:a")], a }))).toEqual([
      "test.toml:201:1: error: tables main -> a -> main jump in a circle",
    ]);
  });

  test("every error is reported at once", () => {
    const [main, other] = draft({ main: [route("table:main"), route("table:ghost")], other: [] }).tables;
    const all = lines({ tables: [main!, other!, { ...other!, name: "main" }] });
    expect(all.map((line) => line.slice(line.indexOf("error")))).toEqual([
      "error: table main is there already, at test.toml:100:1; expected another name",
      "error: there is no table ghost; expected one of main, other",
      "error: tables main -> main jump in a circle",
    ]);
  });

  test("combinations up to the limit pass, and the route that goes beyond it is refused", () => {
    // 1,024 addresses by 2 ports by 512 listeners are exactly the limit.
    const local = Array.from({ length: 1024 }, (_, i) => pattern(`2001:db8::${i.toString(16)}`));
    const listeners = Array.from({ length: 512 }, (_, i) => i);
    const full = route("/run/a", { local, localPorts: [port(80), port(443)], listeners });
    const more = route("/run/b", { localPorts: [port(1, 4)] }); // 1, 2-3, 4
    expect(compile(draft({ main: [full] })).table).toBeDefined();
    expect(lines(draft({ main: [full], web: [more, more] }))).toEqual([
      `test.toml:201:1: error: with the 3 combinations of this route there are more than ${ENTRIES_MAX} ` +
        "in all; expected fewer alternatives, or rounder port ranges",
    ]);
  });
});

describe("warnings", () => {
  test("a table that no jump leads to is named, also when another such table jumps to it", () => {
    const tables = draft({ main: [route("/run/a")], lost: [route("table:more")], more: [route("/run/b")] });
    expect(lines(tables)).toEqual([
      "test.toml:200:1: warning: no jump leads from table main to table lost",
      "test.toml:300:1: warning: no jump leads from table main to table more",
    ]);
    expect(compile(tables).table).toBeDefined();
  });

  test("a table that is reached over another one is not named", () => {
    const tables = { main: [route("table:a")], a: [route("table:b")], b: [route("/run/b")] };
    expect(lines(draft(tables))).toEqual([]);
  });

  test("more than 64 shapes are counted, and 64 are not mentioned", () => {
    const hosts = (count: number) =>
      Array.from({ length: count }, (_, i) => {
        const { address } = pattern("2001:db8::1");
        return route("/run/a", { local: [{ address, mask: prefixMask(128 - i) }] });
      });
    expect(lines(draft({ main: hosts(SHAPES_MAX) }))).toEqual([]);
    expect(lines(draft({ main: hosts(SHAPES_MAX + 1) }))).toEqual([
      "test.toml:100:1: warning: table main compares flows in 65 different ways, and each costs a search; " +
        "expected at most 64: fewer prefix lengths, rounder port ranges",
    ]);
  });

  test("a route after one that takes everything is unreachable", () => {
    const main = [route("/run/a"), route("/run/b", { localPorts: [port(22)] })];
    expect(lines(draft({ main }))).toEqual([
      "test.toml:102:1: warning: this route is never reached: test.toml:101:1 takes all that it would",
    ]);
  });

  test("a route inside the prefix, the ports and the listeners of an earlier one is unreachable", () => {
    const wide = { local: [pattern("2001:db8::/32")], localPorts: [port(8000, 8015)], listeners: [0, 1] };
    const narrow = { local: [pattern("2001:db8:7::/48")], localPorts: [port(8002, 8009)], listeners: [1] };
    expect(lines(draft({ main: [route("/run/a", wide), route("/run/b", narrow)] }))).toHaveLength(1);
    expect(lines(draft({ main: [route("/run/b", narrow), route("/run/a", wide)] }))).toEqual([]);
    const outside = [
      { ...narrow, local: [pattern("2001:db9::/48")] },
      { ...narrow, localPorts: [port(8002, 8016)] },
      { ...narrow, listeners: [2] },
      { ...narrow, listeners: [] },
    ];
    for (const parts of outside) {
      expect(lines(draft({ main: [route("/run/a", wide), route("/run/b", parts)] }))).toEqual([]);
    }
  });

  test("a route whose alternatives are taken by different routes names them all", () => {
    const main = [
      route("/run/a", { localPorts: [port(1)] }),
      route("/run/b", { localPorts: [port(2)] }),
      route("/run/c", { localPorts: [port(1), port(2)] }),
    ];
    expect(lines(draft({ main }))).toEqual([
      "test.toml:103:1: warning: this route is never reached: " +
        "test.toml:101:1 and test.toml:102:1 take all that it would",
    ]);
  });

  test("a route that names the same thing twice is not in its own way", () => {
    expect(lines(draft({ main: [route("/run/a", { localPorts: [port(1), port(1), port(1, 9)] })] }))).toEqual(
      [],
    );
  });

  test("of 150,000 unreachable routes each has its warning", () => {
    const routes = Array.from({ length: 150_001 }, () => route("/run/a"));
    expect(compile(draft({ main: routes })).diagnostics).toHaveLength(150_000);
  });

  test("the same route in another table is reachable", () => {
    const parts = { localPorts: [port(1)] };
    const main = [route("/run/a", parts), route("table:web")];
    expect(lines(draft({ main, web: [route("/run/b", parts)] }))).toEqual([]);
  });

  test("on random tables the interpreter never takes a route that is called unreachable", () => {
    const property = fc.property(anyDraftAndFlows, ([draft, flows]) => {
      const places = new Set(compile(draft).diagnostics.map(({ place }) => place));
      const taken = flows.flatMap((flow) => interpret(draft, flow)).map(({ route }) => route);
      expect(taken.filter((route) => route && places.has(route.place))).toEqual([]);
    });
    fc.assert(property, { numRuns: 500 });
  });

  test("on random tables a route that is written a second time is always called unreachable", () => {
    const property = fc.property(anyDraft, fc.nat(), ({ tables }, choice) => {
      const [main, ...others] = tables;
      fc.pre(main!.routes.length > 0);
      const copy = {
        ...main!.routes[choice % main!.routes.length]!,
        place: { file: "copy", line: 1, column: 1 },
      };
      const { diagnostics } = compile({ tables: [{ ...main!, routes: [...main!.routes, copy] }, ...others] });
      expect(diagnostics.filter(({ place }) => place === copy.place)).toHaveLength(1);
    });
    fc.assert(property, { numRuns: 300 });
  });
});
