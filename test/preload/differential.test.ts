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

/** Runs name on a real listener and on a virtual one; what each printed. */
async function both(name: string, family: string, ...flags: string[]): Promise<[string[], string[]]> {
  const program = compile(name, folder, ...flags);
  const path = join(folder, `${name}-${family}.sock`);
  const port = freePort();
  const child = Bun.spawn([program, family, `${port}`, `${port}`], { env: {}, stdout: "pipe" });
  const native = (await new Response(child.stdout).text()).trimEnd().split("\n");
  await using sender = await startSender(compile("sender", folder), path);
  const virtual = await linesOf([program, family, `${port}`, `${sender.port}`], {
    SOCKETBOX_MAP: mapOf({ [port]: path }),
  });
  return [native, virtual];
}

for (const [how, flags] of [
  ["as a real one does", []],
  ["calls by number, too,", ["-DBY_NUMBER"]],
] as const)
  for (const family of ["4", "6"])
    test(`a virtual listener of IPv${family} answers ${how} apart from the listed rows`, async () => {
      const [native, virtual] = await both("differential", family, ...flags);
      expect(native.length).toBeGreaterThan(190);
      const alike = (lines: string[]) => lines.filter((line) => !Object.hasOwn(different, keyOf(line)));
      expect(alike(virtual)).toEqual(alike(native));
      const differing = native.filter((line) => !virtual.includes(line)).map(keyOf);
      // Only root may, on either.
      const expected = Object.keys(different).filter((key) => key !== "detach it" || process.getuid!() === 0);
      expect(differing.sort()).toEqual(expected.sort());
    });

const noEffect = "not applied to received connections, on which it has no effect";
const unlisted = "the scratch socket that is asked does not listen";
const stateOfSocket = "is about the one socket, and no setting";
/** Options of sweep.c that differ somewhere, each with the reason. */
const differentOptions: Record<string, string> = {
  "SOL_SOCKET 2": `SO_REUSEADDR ${noEffect}`,
  "SOL_SOCKET 15": `SO_REUSEPORT ${noEffect}`,
  "SOL_SOCKET 49": "SO_INCOMING_CPU is the processor that a connection came by",
  "SOL_SOCKET 57": `SO_COOKIE ${stateOfSocket}`,
  "SOL_SOCKET 62": "SO_BINDTOIFINDEX would bind a connection to an interface",
  "SOL_SOCKET 72": "SO_BUF_LOCK is remembered where a size is",
  "TCP 11": "TCP_INFO has the length of the queue, which is another's",
  "TCP 19": "TCP_REPAIR is refused to a listener, and never applied",
  "TCP 21": "TCP_QUEUE_SEQ likewise",
  "TCP 24": `TCP_TIMESTAMP ${stateOfSocket}`,
  "TCP 30": `TCP_FASTOPEN_CONNECT: ${unlisted}`,
  "TCP 34": "TCP_FASTOPEN_NO_COOKIE cannot be set on a connection",
  "TCP 35": `TCP_ZEROCOPY_RECEIVE: ${unlisted}`,
  "TCP 42": `TCP_AO_GET_KEYS: ${unlisted}`,
  "IP 4": "IP_OPTIONS are options of each packet, which are not remembered",
  "IP 15": `IP_FREEBIND ${noEffect}`,
  "IP 19": `IP_TRANSPARENT ${noEffect}`,
  "IP 49": "IP_MULTICAST_ALL has another default where a connection came in by IPv6",
  "IP 52": "IP_PROTOCOL is for raw sockets",
  "IPV6 26": `IPV6_V6ONLY ${noEffect}`,
  "IPV6 75": `IPV6_TRANSPARENT ${noEffect}`,
  "IPV6 78": `IPV6_FREEBIND ${noEffect}`,
};

for (const family of ["4", "6"])
  test(`every option of a virtual listener of IPv${family}, set before or after, is told and inherited`, async () => {
    const [native, virtual] = await both("sweep", family);
    const differing = new Set<string>();
    const option = (line: string) => /(\S+ \d+):/.exec(line)?.[1] ?? line;
    for (const line of native) if (!virtual.includes(line)) differing.add(option(line));
    for (const line of virtual) if (!native.includes(line)) differing.add(option(line));
    expect([...differing].filter((name) => !Object.hasOwn(differentOptions, name))).toEqual([]);
  });
