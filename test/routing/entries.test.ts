import { expect, test } from "bun:test";
import fc from "fast-check";
import { countEntries, expandRoutes, portBlocks } from "../../src/routing/entries.ts";
import { pattern, port, route } from "./drafts.ts";

test.each([
  [port(0, 65535), [{ port: 0, mask: 0 }]],
  [port(22), [{ port: 22, mask: 0xffff }]],
  [port(0), [{ port: 0, mask: 0xffff }]],
  [port(65535), [{ port: 65535, mask: 0xffff }]],
  [
    port(8000, 8010),
    [
      { port: 8000, mask: 0xfff8 },
      { port: 8008, mask: 0xfffe },
      { port: 8010, mask: 0xffff },
    ],
  ],
])("the ports %j are these aligned blocks", (range, blocks) => {
  expect(portBlocks([range])).toEqual(blocks);
});

test("the ports 1-65535 are sixteen blocks, each twice as large as the one before", () => {
  const blocks = portBlocks([port(1, 65535)]);
  expect(blocks.map(({ port }) => port)).toEqual(Array.from({ length: 16 }, (_, i) => 2 ** i));
  expect(blocks.map(({ mask }) => 0x10000 - mask)).toEqual(Array.from({ length: 16 }, (_, i) => 2 ** i));
});

test("the blocks of a range follow each other from its first port to its last, thirty at most", () => {
  const number = fc.integer({ min: 0, max: 65535 });
  const property = fc.property(number, number, (a, b) => {
    const [first, last] = [Math.min(a, b), Math.max(a, b)];
    let next = first;
    const blocks = portBlocks([port(first, last)]);
    for (const { port, mask } of blocks) {
      expect(port).toBe(next);
      expect(port & mask).toBe(port);
      next += 0x10000 - mask;
    }
    expect(next).toBe(last + 1);
    expect(blocks.length).toBeLessThanOrEqual(30);
  });
  fc.assert(property, { examples: [[1, 65534]] });
});

test("a route makes one entry for each combination, all with its rank", () => {
  const many = route("/run/a", {
    local: [pattern("::1"), pattern("::2"), pattern("2001:db8::/32")],
    localPorts: [port(1, 2), port(7)],
    remote: [pattern("::/0"), pattern("::9")],
    remotePorts: [port(0, 65535)],
    listeners: [3, 4],
  });
  expect(countEntries(many)).toBe(3 * 3 * 2 * 2);
  const { keys, ranks, masks } = expandRoutes([many, route("/run/b")]);
  expect(ranks).toEqual(Uint32Array.from([...Array<number>(36).fill(2), 1]));
  expect(keys).toHaveLength(37 * 10);
  // A host or a network at the one end, a host or anything at the other; and the route that compares nothing.
  expect(masks).toHaveLength(2 * 2 + 1);
});
