import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Flow } from "../../src/model/flow.ts";
import { compile } from "../../src/routing/compile.ts";
import type { Draft } from "../../src/routing/draft.ts";
import { explain, route as lookUp, type Step } from "../../src/routing/match.ts";
import { FLOW_WORDS, flowWords } from "../../src/routing/record.ts";
import { DENIED, NO_ROUTE, type Table } from "../../src/routing/table.ts";
import { anyDraftAndFlows } from "./arbitrary.ts";
import { draft, flow, pattern, port, route, target } from "./drafts.ts";
import { interpret } from "./interpreter.ts";

function tableOf(draft: Draft): Table {
  const { table, diagnostics } = compile(draft);
  if (!table) throw new Error(JSON.stringify(diagnostics));
  return table;
}

/** `deny`, `none`, or the name of the target. */
function verdictFor(table: Table, flow: Flow): string {
  const verdict = lookUp(table, flowWords(flow), 0, flow.listener);
  if (verdict === DENIED) return "deny";
  return verdict === NO_ROUTE ? "none" : table.targets[verdict]!.name;
}

function answer(tables: Parameters<typeof draft>[0], question: Parameters<typeof flow>[0]): string {
  return verdictFor(tableOf(draft(tables)), flow(question));
}

function verdictOf(steps: readonly Step[]): string {
  const action = steps.at(-1)!.route?.action;
  return action?.kind === "target" ? action.target.name : (action?.kind ?? "none");
}

describe("against the interpreter", () => {
  test("on random tables every lookup takes the routes that the interpreter takes", () => {
    const property = fc.property(anyDraftAndFlows, ([draft, flows]) => {
      const table = tableOf(draft);
      for (const flow of flows) {
        const truth = interpret(draft, flow);
        const { steps, verdict } = explain(table, draft, flow);
        expect(steps.map(({ table }) => table)).toEqual(truth.map(({ table }) => table));
        expect(steps.every(({ route }, i) => route === truth[i]!.route)).toBe(true);
        expect(verdictFor(table, flow)).toBe(verdictOf(truth));
        expect(lookUp(table, flowWords(flow), 0, flow.listener)).toBe(verdict);
      }
    });
    fc.assert(property, { numRuns: 1000 });
  });

  test("a table that went through structuredClone gives the same verdicts", () => {
    const property = fc.property(anyDraftAndFlows, ([draft, flows]) => {
      const table = tableOf(draft);
      const clone = structuredClone(table);
      expect(clone).toEqual(table);
      for (const flow of flows) expect(verdictFor(clone, flow)).toBe(verdictFor(table, flow));
    });
    fc.assert(property, { numRuns: 200 });
  });

  test("each of 5,000 hosts with a port of its own is found, and its neighbours are not", () => {
    const address = (i: number) => `2001:db8::${(i >> 8).toString(16)}:${(i & 255).toString(16)}`;
    const port = (i: number) => 1 + (i % 700);
    const numbers = Array.from({ length: 5000 }, (_, i) => i);
    const routes = numbers.map((i) => {
      const localPorts = [{ first: port(i), last: port(i) }];
      return route(`/run/${i}`, { local: [pattern(address(i))], localPorts });
    });
    const table = tableOf(draft({ main: routes }));
    const name = (i: number, localPort: number) => verdictFor(table, flow({ local: address(i), localPort }));
    expect(numbers.filter((i) => name(i, port(i)) !== `unix:/run/${i}`)).toEqual([]);
    expect(numbers.filter((i) => name(i, port(i) + 1) !== "none")).toEqual([]);
  });
});

describe("a route", () => {
  test("that compares nothing takes every flow", () => {
    expect(answer({ main: [route("/run/a")] }, {})).toBe("unix:/run/a");
  });

  test("that comes first wins over a closer one that comes later", () => {
    const routes = [
      route("/run/net", { local: [pattern("2001:db8::/32")] }),
      route("/run/host", { local: [pattern("2001:db8::1")] }),
    ];
    expect(answer({ main: routes }, {})).toBe("unix:/run/net");
    expect(answer({ main: routes.toReversed() }, {})).toBe("unix:/run/host");
  });

  test("with a prefix takes the addresses inside it and no other", () => {
    const main = [route("/run/a", { local: [pattern("2001:db8:4::/47")] })];
    expect(answer({ main }, { local: "2001:db8:5:ffff::9" })).toBe("unix:/run/a");
    expect(answer({ main }, { local: "2001:db8:6::" })).toBe("none");
  });

  test("with a mask written as an address compares just its bits", () => {
    const main = [route("/run/a", { local: [pattern("::5/::ffff:ffff:ffff:ffff")] })];
    expect(answer({ main }, { local: "2001:db8:1:2::5" })).toBe("unix:/run/a");
    expect(answer({ main }, { local: "2001:db8:1:2::6" })).toBe("none");
  });

  test("takes no notice of bits of its address outside the mask", () => {
    const main = [route("/run/a", { local: [pattern("2001:db8::5/64")] })];
    expect(answer({ main }, { local: "2001:db8::6" })).toBe("unix:/run/a");
  });

  test("with a plain IPv4 prefix takes mapped addresses", () => {
    const main = [route("/run/a", { remote: [pattern("192.0.2.0/25")] })];
    expect(answer({ main }, { remote: "::ffff:192.0.2.127" })).toBe("unix:/run/a");
    expect(answer({ main }, { remote: "::ffff:192.0.2.128" })).toBe("none");
  });

  test("tells the local end from the remote end", () => {
    const main = [route("/run/a", { local: [pattern("::1")], remotePorts: [port(7)] })];
    expect(answer({ main }, { local: "::1", remotePort: 7, localPort: 8 })).toBe("unix:/run/a");
    expect(answer({ main }, { local: "::1", remotePort: 8, localPort: 7 })).toBe("none");
    expect(answer({ main }, { local: "::2", remote: "::1", remotePort: 7 })).toBe("none");
  });

  test("of a listener takes only flows that came in by it, the first listener included", () => {
    const main = [route("/run/first", { listeners: [0] }), route("/run/third", { listeners: [2] })];
    expect(answer({ main }, { listener: 0 })).toBe("unix:/run/first");
    expect(answer({ main }, { listener: 1 })).toBe("none");
    expect(answer({ main }, { listener: 2 })).toBe("unix:/run/third");
  });

  test("with alternatives takes each combination of them", () => {
    const local = [pattern("::1"), pattern("::2")];
    const main = [route("/run/a", { local, localPorts: [port(1), port(5, 6)], listeners: [0, 1] })];
    const fits = ["::1", "::2", "::3"].flatMap((local) =>
      [1, 4, 5, 6, 7].flatMap((localPort) =>
        [0, 1, 2].filter((listener) => answer({ main }, { local, localPort, listener }) !== "none"),
      ),
    );
    expect(fits).toHaveLength(2 * 3 * 2);
  });

  const ranges: [first: number, last: number][] = [
    [0, 65535],
    [1, 65535],
    [0, 0],
    [65535, 65535],
    [22, 22],
    [8000, 8010],
  ];
  test.each(ranges)("for the ports %d-%d takes both ends and neither neighbour", (first, last) => {
    for (const end of ["local", "remote"] as const) {
      const main = [route("/run/a", { [`${end}Ports`]: [port(first, last)] })];
      const takes = (number: number) => answer({ main }, { [`${end}Port`]: number }) !== "none";
      expect([takes(first), takes(last)]).toEqual([true, true]);
      if (first > 0) expect(takes(first - 1)).toBe(false);
      if (last < 65535) expect(takes(last + 1)).toBe(false);
    }
  });

  test("that denies ends the lookup", () => {
    const main = [route("deny", { remote: [pattern("2001:db8:bad::/48")] }), route("/run/a")];
    expect(answer({ main }, { remote: "2001:db8:bad::1" })).toBe("deny");
    expect(answer({ main }, {})).toBe("unix:/run/a");
  });
});

describe("a jump", () => {
  test("goes on in the other table and never comes back", () => {
    const main = [route("table:web", { localPorts: [port(80)] }), route("/run/default")];
    const web = [route("/run/web", { local: [pattern("::1")] })];
    expect(answer({ main, web }, { local: "::1" })).toBe("unix:/run/web");
    expect(answer({ main, web }, { local: "::2" })).toBe("none");
    expect(answer({ main, web }, { local: "::2", localPort: 81 })).toBe("unix:/run/default");
  });

  test("may come to one table by two ways", () => {
    const tables = {
      main: [route("table:left", { localPorts: [port(1)] }), route("table:right")],
      left: [route("table:end")],
      right: [route("table:end")],
      end: [route("/run/end")],
    };
    expect(answer(tables, { localPort: 1 })).toBe("unix:/run/end");
    expect(answer(tables, { localPort: 2 })).toBe("unix:/run/end");
  });

  test("leads through a chain of 50,000 tables", () => {
    const names = Array.from({ length: 50_000 }, (_, i) => `t${i}`);
    const chain = Object.fromEntries(
      names.map((name, i) => [name, [route(names[i + 1] ? `table:${names[i + 1]}` : "/run/end")]]),
    );
    expect(answer(chain, {})).toBe("unix:/run/end");
  });
});

describe("explain", () => {
  test("names each table with the route taken in it, and the verdict", () => {
    const steps = draft({
      main: [route("/run/ssh", { localPorts: [port(22)] }), route("table:web")],
      web: [route("/run/web")],
    });
    const table = tableOf(steps);
    const [main, web] = steps.tables;
    const explanation = explain(table, steps, flow());
    expect(explanation.steps).toEqual([
      { table: "main", route: main!.routes[1] },
      { table: "web", route: web!.routes[0] },
    ]);
    expect(table.targets[explanation.verdict]).toBe(target("/run/web"));
  });

  test("says in which table no route fits", () => {
    const steps = draft({ main: [route("table:web")], web: [] });
    const explanation = explain(tableOf(steps), steps, flow());
    expect(explanation.steps.at(-1)).toEqual({ table: "web", route: undefined });
    expect(explanation.verdict).toBe(NO_ROUTE);
  });
});

test("a lookup reads the record at its offset, and not the descriptor in its last word", () => {
  const table = tableOf(draft({ main: [route("/run/a", { local: [pattern("::7")], listeners: [1] })] }));
  const flows = new Uint32Array(3 * FLOW_WORDS);
  flows.set(flowWords(flow({ local: "::7" })), 2 * FLOW_WORDS);
  expect(lookUp(table, flows, 2 * FLOW_WORDS, 1)).toBe(0);
  expect(lookUp(table, flows, 1 * FLOW_WORDS, 1)).toBe(NO_ROUTE);
  flows[3 * FLOW_WORDS - 1] = 1;
  expect(lookUp(table, flows, 2 * FLOW_WORDS, 0)).toBe(NO_ROUTE);
});
