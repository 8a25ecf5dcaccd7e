/** socket-query: the addresses of an inherited socket, in the original's own form. */
import { describe, expect, test } from "bun:test";
import { EXIT } from "../../src/programs/host.ts";
import { pythonOutput, said } from "../kit/python.ts";
import { program, testWith } from "../kit/require.ts";
import { bin, run } from "../kit/running.ts";

const testPython = testWith(program("python3"));
const QUERY = bin("socket-query");

/** Asks about the accepted end, on descriptor 0, once for each set of words, and prints the ports too. */
const ASK = `
import subprocess
client, accepted = connection(sys.argv[2])
print(*[end.getsockname()[1] for end in (accepted, client)])
for words in sys.argv[3:]:
    print(subprocess.run([sys.argv[1], *words.split()], stdin=accepted, capture_output=True, text=True).stdout, end="")`;

/** The answers for a connection to `address`, with the ports as LOCAL and REMOTE. */
async function answers(address: string, ...questions: string[]): Promise<string[]> {
  const [ports, ...lines] = (await pythonOutput(ASK, QUERY, address, ...questions)).trimEnd().split("\n");
  const [local, remote] = ports!.split(" ").map(Number) as [number, number];
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, "0");
  const named = (line: string) =>
    line
      .replaceAll(new RegExp(`\\b${local}$|(?<=:)${local}\\b`, "g"), "LOCAL")
      .replaceAll(new RegExp(`\\b${remote}$|(?<=:)${remote}\\b`, "g"), "REMOTE")
      .replaceAll(new RegExp(`:${hex(local)}\\b`, "g"), ":XLOCAL")
      .replaceAll(new RegExp(`:${hex(remote)}\\b`, "g"), ":XREMOTE");
  return lines.map(named);
}

describe("socket-query", () => {
  const ONE = "0000:0000:0000:0000:0000:0000:0000:0001";

  testPython("prints both sides, or one, with every group four hex digits", async () => {
    expect(await answers("::1", "", "-l", "-r", "--local", "--remote")).toEqual([
      `[${ONE}]:LOCAL [${ONE}]:REMOTE`,
      `[${ONE}]:LOCAL`,
      `[${ONE}]:REMOTE`,
      `[${ONE}]:LOCAL`,
      `[${ONE}]:REMOTE`,
    ]);
  });

  testPython("prints an address or a port alone", async () => {
    expect(await answers("::1", "-la", "-lp", "-ra", "-rp", "-r -p")).toEqual([
      ONE,
      "LOCAL",
      ONE,
      "REMOTE",
      "REMOTE",
    ]);
  });

  testPython("prints raw upper-case hex: 32 digits, a colon, four digits", async () => {
    const raw = "00000000000000000000000000000001";
    expect(await answers("::1", "-R", "-lR", "-raR")).toEqual([
      `${raw}:XLOCAL ${raw}:XREMOTE`,
      `${raw}:XLOCAL`,
      raw,
    ]);
  });

  testPython("writes the IPv4 addresses of an AF_INET socket in their mapped form", async () => {
    expect(await answers("127.0.0.1", "-l", "-raR")).toEqual([
      "[0000:0000:0000:0000:0000:ffff:7f00:0001]:LOCAL",
      "00000000000000000000FFFF7F000001",
    ]);
  });

  testPython("asks about another descriptor with -f", async () => {
    const script = `
import subprocess
client, accepted = connection("::1")
words = [sys.argv[1], "-lp", "-f", str(accepted.fileno())]
print(subprocess.check_output(words, pass_fds=[accepted.fileno()], text=True).strip() == str(accepted.getsockname()[1]))`;
    expect(await pythonOutput(script, QUERY)).toBe("True\n");
  });

  test("says when there is no connection on the descriptor", async () => {
    for (const words of [[], ["-f", "99"]]) {
      const { code, out } = await run([QUERY, ...words]);
      expect(code).toBe(EXIT.system);
      expect(out).toMatch(/socket-query: descriptor (0|99): E(NOTSOCK|BADF)/);
    }
  });

  testPython("has no address for a Unix socket, and says so instead of one of zeros", async () => {
    const script = `
import subprocess
one, other = socket.socketpair()
done = subprocess.run([sys.argv[1]], stdin=one, capture_output=True, text=True)
say(code=done.returncode, out=done.stdout, log=done.stderr.split(": ", 1)[1])`;
    expect(said(await pythonOutput(script, QUERY))).toEqual([
      { code: EXIT.system, out: "", log: "descriptor 0: EPROTOTYPE (another kind of socket)\n" },
    ]);
  });
});
