/** What a newcomer sees first. */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { bin, must } from "./kit/running.ts";

const folders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("sb-demo-"));

test("bin/demo shows two programs behind one socket, each with its client's own address, and one address denied", async () => {
  const before = folders();
  const shown = await must([bin("demo")]);
  for (const [name, address] of [
    ["apple", "127.0.0.2"],
    ["pear", "127.0.0.3"],
  ]) {
    const [, port] = new RegExp(`127\\.0\\.0\\.99 port (\\d+) connects to ${address}`).exec(shown)!;
    expect(shown).toMatch(
      new RegExp(`I am ${name}, at ${address} port \\d+\\. You are 127\\.0\\.0\\.99 port ${port}\\.`),
    );
  }
  expect(shown).toMatch(/connects to 127\.0\.0\.4 [\s\S]*?denied/);
  expect(shown).toContain("stopped: 3 accepted, 2 delivered, 1 denied");
  expect(folders().filter((name) => !before.includes(name))).toEqual([]);
});
