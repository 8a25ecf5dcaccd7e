/** A program asks a real TCP listener and a virtual one the same; the answers agree line by line. */
import { expect } from "bun:test";
import { join } from "node:path";
import { program, testWith } from "../kit/require.ts";
import { compile, linesOf, mapOf, scratchFolder, startSender } from "./harness.ts";

const gcc = program("gcc");
const test = testWith(gcc);
/** Lines that differ, each with the reason. */
const different: Record<string, string> = {
  "detach it":
    "a filter that a program attaches to its listener is checked and forgotten: it would find nothing there",
  "get accepted SO_PRIORITY":
    "IP_TOS is applied to a received connection by setsockopt, which sets the priority, too",
  "get accepted SO_REUSEADDR": "not applied to received connections: it has no effect on a connected socket",
};

const folder = scratchFolder();

function freePort(): number {
  const server = Bun.listen({ hostname: "::", port: 0, socket: { data() {} } });
  server.stop(true);
  return server.port;
}

const keyOf = (line: string) => line.slice(0, line.indexOf(":"));

for (const family of ["4", "6"]) {
  test(`a virtual listener of IPv${family} answers as a real one does, apart from the listed rows`, async () => {
    const program = compile("differential", folder);
    const path = join(folder, `differential-${family}.sock`);
    const port = freePort();
    const child = Bun.spawn([program, family, `${port}`, `${port}`], { env: {}, stdout: "pipe" });
    const native = (await new Response(child.stdout).text()).trimEnd().split("\n");
    await using sender = await startSender(compile("sender", folder), path);
    const virtual = await linesOf([program, family, `${port}`, `${sender.port}`], {
      SOCKETBOX_MAP: mapOf({ [port]: path }),
    });
    expect(native.length).toBeGreaterThan(150);
    const alike = (lines: string[]) => lines.filter((line) => !Object.hasOwn(different, keyOf(line)));
    expect(alike(virtual)).toEqual(alike(native));
    const differing = native.filter((line) => !virtual.includes(line)).map(keyOf);
    expect(differing.sort()).toEqual(Object.keys(different).sort());
  });
}
