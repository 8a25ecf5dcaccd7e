/** How socketbox-inetd stops: at once where nothing is left to do, whatever its limits say. */
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { Fd } from "../../../src/io/fd.ts";
import { SOCK } from "../../../src/io/socket.ts";
import { check, ERRNO } from "../../../src/native/errno.ts";
import { cString, native } from "../../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../../src/native/structs.ts";
import { EXIT } from "../../../src/programs/host.ts";
import { FLOW_WORDS } from "../../../src/routing/record.ts";
import { python, pythonOutput } from "../../kit/python.ts";
import { bin, freePort, Running, ready, scratch, settles } from "../../kit/running.ts";
import { inetd as startInetd, testPython } from "./inetd.ts";

const SEQPACKET = 5;
const REGISTERED = Uint8Array.of(0x80, 0, 0, 0);

const clients: Bun.Socket[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.end();
});

/** A client that says nothing and stays. */
async function stay(port: number): Promise<void> {
  clients.push(await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }));
}

/** Lasts as long as its client, and does not hold the log open that a test reads to its end. */
const CHILD = ["sh", "-c", "exec cat 2>/dev/null"];

/** socketbox-inetd with these options, and one running child. */
async function withOneChild(folder: { file(name: string): string }, ...options: string[]) {
  const path = folder.file("socket");
  const inetd = await ready("socketbox-inetd", [...options, path, ...CHILD]);
  const port = await freePort();
  const server = await ready("socketbox", ["-S", path, "-p", String(port)]);
  await stay(port);
  await inetd.until(/ start \d+: /);
  return { inetd, server, port };
}

test.each([["--max=1"], ["--rate=1/1h"]])("at a limit (%s), SIGTERM leaves children alone", async (limit) => {
  using folder = scratch();
  const { inetd, server } = await withOneChild(folder, limit);
  await using _inetd = inetd;
  await using _server = server;
  expect(await inetd.stop()).toBe(0);
  expect(inetd.log).not.toContain(" end ");
});

test("once SIGTERM has come, who still has a way to it is told that nobody is here (EPIPE)", async () => {
  using folder = scratch();
  const { inetd, server, port } = await withOneChild(folder, "--max", "1");
  await using _inetd = inetd;
  await using _server = server;
  await stay(port);
  await inetd.until(/pausing: limit of 1/);
  const way = native.sb_connect_unix(cString(folder.file("socket")), SOCK.datagram);
  using sender = Fd.from(way, "connect to the mailbox");
  await server.stop(); // the second has been handed over, and waits for the first to end
  inetd.kill("SIGTERM");
  await inetd.until(/stopping/);
  await settles(() => send(sender.number), -ERRNO.EPIPE);
  for (const client of clients) client.end();
  expect(await inetd.ended()).toBe(0);
});

/** Sends any descriptor. What the kernel says to it. */
function send(to: number): number {
  const copy = check(native.sb_duplicate(to), "duplicate");
  const result = native.sb_send_fds(to, Int32Array.of(copy), 1, Uint8Array.of(0), 1);
  if (result < 0) native.sb_close(copy);
  return result;
}

test("what had come when SIGTERM came is served within --max, also after it", async () => {
  using folder = scratch();
  const { inetd, server, port } = await withOneChild(folder, "--max", "1");
  await using _inetd = inetd;
  await using _server = server;
  await stay(port);
  await inetd.until(/pausing: limit of 1/);
  await server.stop(); // it has handed over what it had
  inetd.kill("SIGTERM");
  await inetd.until(/stopping/);
  clients[0]!.end();
  await inetd.until(/ start (?:.|\n)* end (?:.|\n)* start /);
  expect(await inetd.ended()).toBe(0);
  expect(inetd.log).not.toContain("2 running");
});

test("--drain bounds the wait for children and for what waits behind them", async () => {
  using folder = scratch();
  const { inetd, server, port } = await withOneChild(folder, "--max", "1", "--drain", "300ms");
  await using _inetd = inetd;
  await using _server = server;
  await stay(port);
  await inetd.until(/pausing: limit of 1/);
  await server.stop();
  expect(await inetd.stop()).toBe(0);
  expect(inetd.log).toContain("waiting for 1 children");
  expect(inetd.log).toContain("connection given up: shutdown: ");
});

test("a registered socketbox-inetd that is told to stop has not lost its server", async () => {
  using folder = scratch();
  const path = folder.file("registry");
  const listener = check(native.sb_bind_unix(cString(path), SEQPACKET, 0o600), "bind");
  check(native.sb_listen(listener, 1), "listen");
  await using inetd = new Running([bin("socketbox-inetd-p"), path, "3", "cat"]);
  const flows = new Uint32Array(FLOW_WORDS);
  while (native.sb_accept(listener, flows, 1, 0) === 0) await Bun.sleep(5);
  const registered = flows[FLOW_FD_WORD]!;
  check(native.sb_write(registered, REGISTERED, REGISTERED.length), "answer");
  await inetd.until(/: ready: /);
  expect(await inetd.stop()).toBe(0);
  expect(inetd.log).not.toContain("has gone");
  native.sb_close(registered);
  native.sb_close(listener);
});

test("with --no-new-privs children cannot gain privileges", async () => {
  using folder = scratch();
  const path = folder.file("socket");
  const command = ["grep", "NoNewPrivs", "/proc/self/status"];
  for (const [options, value] of [
    [["--no-new-privs"], "1"],
    [[], "0"],
  ] as const) {
    await using inetd = await ready("socketbox-inetd", [
      ...options,
      path,
      "sh",
      "-c",
      `${command.join(" ")} >&2`,
    ]);
    const port = await freePort();
    await using _server = await ready("socketbox", ["-S", path, "-p", String(port)]);
    await stay(port);
    await inetd.until(new RegExp(`NoNewPrivs:\\s${value}`));
  }
});

describe("SIGTERM", () => {
  /** A client whose child runs while inetd is told to stop; it says what the child answered after that. */
  const OUTLIVE = `
path, pid = sys.argv[1], int(sys.argv[2])
client, accepted = connection()
hand(path, accepted)
accepted.close()
print(client.recv(100).decode(), end="", flush=True)
os.kill(pid, 15)
while os.path.exists(path): pass
say(gone=path)
while not os.path.exists(sys.argv[3]): pass
print(ask(client, "after\\n"), end="")`;
  // Without our standard error, which the test reads to its end.
  const SLOW = 'exec 2>/dev/null; echo hi; read -r x; echo "heard $x"';

  testPython("ends inetd at once and leaves children alone", async () => {
    using folder = scratch();
    await using server = await startInetd(folder.file("s"), SLOW);
    await using client = python(OUTLIVE, [folder.file("s"), server.pid, folder.file("go")]);
    expect(await server.ended()).toBe(EXIT.ok);
    writeFileSync(folder.file("go"), "");
    expect(await client.ended()).toBe(0);
    expect(client.log).toEndWith("heard after\n");
    expect(server.log).not.toContain(" end ");
  });

  testPython("with --drain waits for children, but no longer than it says", async () => {
    using folder = scratch();
    await using patient = await startInetd(folder.file("a"), SLOW, ["--drain", "1m"]);
    await using client = python(OUTLIVE, [folder.file("a"), patient.pid, folder.file("go")]);
    await client.until(/gone/);
    await patient.until(/waiting for 1 children/);
    writeFileSync(folder.file("go"), "");
    expect(await patient.ended()).toBe(EXIT.ok);
    expect(patient.log).toMatch(/ end \d+: exited 0 after /);
    await client.ended();

    await using hasty = await startInetd(folder.file("b"), SLOW, ["--drain", "100ms"]);
    await using other = python(OUTLIVE, [folder.file("b"), hasty.pid, folder.file("go2")]);
    expect(await hasty.ended()).toBe(EXIT.ok);
    expect(hasty.log).not.toContain(" end ");
    writeFileSync(folder.file("go2"), "");
    await other.ended();
    expect(other.log).toEndWith("heard after\n");
  });

  testPython("a second one ends the waiting", async () => {
    using folder = scratch();
    await using server = await startInetd(folder.file("s"), SLOW, ["--drain", "1h"]);
    await using client = python(OUTLIVE, [folder.file("s"), server.pid, folder.file("go")]);
    await server.until(/waiting for 1 children/);
    server.kill("SIGTERM");
    expect(await server.ended()).toBe(EXIT.ok);
    writeFileSync(folder.file("go"), "");
    expect(await client.ended()).toBe(0);
  });

  testPython("serves what was sent before it, though it waited for a limit", async () => {
    using folder = scratch();
    await using server = await startInetd(folder.file("s"), SLOW, ["--max", "1"]);
    const script = `
path, pid = sys.argv[1], int(sys.argv[2])
pairs = [connection() for _ in range(6)]
for _, accepted in pairs:
    hand(path, accepted)
    accepted.close()
os.kill(pid, 15)
print([ask(client, f"{n}\\n") for n, (client, _) in enumerate(pairs)])`;
    const out = await pythonOutput(script, folder.file("s"), server.pid);
    expect(out).toBe(`[${[0, 1, 2, 3, 4, 5].map((n) => `'hi\\nheard ${n}\\n'`).join(", ")}]\n`);
    expect(await server.ended()).toBe(EXIT.ok);
  });
});

test("whoever reads that it is ready can stop it, and nothing of it stays", async () => {
  using folder = scratch();
  const starts = Array.from({ length: 12 }, async (_, n) => {
    const path = folder.file(String(n));
    await using inetd = new Running([bin("socketbox-inetd"), path, "/bin/true"]);
    while (!inetd.log.includes(": ready: ")) await Bun.sleep(0);
    const code = await inetd.stop();
    return [code, existsSync(path)];
  });
  expect(await Promise.all(starts)).toEqual(Array(12).fill([0, false]));
});
