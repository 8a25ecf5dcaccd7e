import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  fillBraces,
  fillGroups,
  fillReceiver,
  formatReceiver,
  hasBraces,
  hasGroups,
  longestPath,
  targetOf,
} from "../../src/model/target.ts";
import { flow } from "../routing/drafts.ts";

const to = (local: string, localPort = 80) => flow({ local, localPort });

describe("{…} in a path", () => {
  test.each([
    ["/run/{port}", "2001:db8::1", "/run/443"],
    ["/run/{local}", "2001:db8::1", "/run/2001:db8::1"],
    ["/run/{local}", "192.0.2.1", "/run/192.0.2.1"],
    ["/run/{group0}/{group1}/{group7}", "2001:db8::1", "/run/2001/0db8/0001"],
    ["@{port}-{port}", "::", "@443-443"],
    ["/run/{group8}/{Port}", "::", "/run/{group8}/{Port}"],
  ])("%s for %s becomes %s", (path, local, filled) => {
    expect(fillBraces(path, to(local, 443))).toBe(filled);
  });

  test("no flow fills a path in to more bytes than longestPath says, and some to as many", () => {
    const piece = fc.constantFrom("/", "a", "ü", "{port}", "{local}", "{group3}");
    const path = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
    const address = fc.uint8Array({ minLength: 16, maxLength: 16 });
    const port = fc.integer({ min: 1, max: 65535 });
    fc.assert(
      fc.property(path, address, port, (path, local, localPort) => {
        const filled = fillBraces(path, { ...flow(), local, localPort });
        expect(Buffer.byteLength(filled)).toBeLessThanOrEqual(longestPath(path));
      }),
    );
    const widest = to("1111:1111:1111:1111:1111:1111:1111:1111", 65535);
    const all = "/{port}/{local}/{group7}";
    expect(fillBraces(all, widest)).toHaveLength(longestPath(all));
  });
});

describe("#//N_ in a path (-U)", () => {
  test("groups and port become five decimal digits each", () => {
    const path = "/run/#//0_/#//1_/#//7_/#//P_";
    expect(fillGroups(path, to("2001:db8::ffff", 80))).toBe("/run/08193/03512/65535/00080");
  });

  test("the first of each is replaced, a further one stays", () => {
    expect(fillGroups("#//P_#//P_#//7_#//7_", to("::2", 443))).toBe("00443#//P_00002#//7_");
  });

  test("IPv4 is the last two groups of its mapped form", () => {
    expect(fillGroups("#//5_.#//6_.#//7_", to("192.0.2.1"))).toBe("65535.49152.00513");
  });

  test("a filled path is as long as its pattern", () => {
    const piece = fc.constantFrom("/a", "#//0_", "#//6_", "#//7_", "#//P_", "#/", "P_");
    const path = fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join(""));
    const address = fc.uint8Array({ minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(path, address, (path, local) => {
        expect(fillGroups(path, { ...flow(), local })).toHaveLength(path.length);
      }),
    );
  });

  test("#//8_ and #//p_ are not patterns", () => {
    expect(["#//8_", "#//p_", "#/0_"].some(hasGroups)).toBe(false);
    expect(["#//0_", "x#//7_y", "#//P_"].every(hasGroups)).toBe(true);
  });
});

describe("receivers", () => {
  test.each([
    [{ kind: "unix", path: "/run/a" } as const, "unix:/run/a"],
    [{ kind: "unix", path: "@a" } as const, "unix:@a"],
    [{ kind: "fd", fd: 0 } as const, "fd:0"],
    [{ kind: "slot", slot: 4294967295 } as const, "slot:4294967295"],
  ])("%p is written %s", (receiver, text) => {
    expect(formatReceiver(receiver)).toBe(text);
    expect(targetOf(receiver).name).toBe(text);
  });

  test("a path is filled in only when its receiver says how", () => {
    const path = "/run/{port}/#//P_";
    expect(fillReceiver({ kind: "unix", path }, to("::1"))).toEqual({ kind: "unix", path });
    expect(fillReceiver({ kind: "unix", path, fill: "braces" }, to("::1"))).toEqual({
      kind: "unix",
      path: "/run/80/#//P_",
    });
    expect(fillReceiver({ kind: "unix", path, fill: "groups" }, to("::1"))).toEqual({
      kind: "unix",
      path: "/run/{port}/00080",
    });
    expect(fillReceiver({ kind: "fd", fd: 4 }, to("::1"))).toEqual({ kind: "fd", fd: 4 });
  });

  test("words in braces that are no placeholder make no template", () => {
    expect(hasBraces("/run/{ports}")).toBe(false);
    expect(hasBraces("/run/{port}")).toBe(true);
  });
});
