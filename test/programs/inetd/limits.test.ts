/** The limits of socketbox-inetd hold exactly, also in a crowd. */
import { describe, expect } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { EXIT } from "../../../src/programs/host.ts";
import { Namespace } from "../../kit/namespace.ts";
import { python, pythonCommand, pythonOutput, said } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ready, scratch } from "../../kit/running.ts";
import { askThrough, INETD, inetd, sh, testPython } from "./inetd.ts";

/**
 * 2,000 clients at a time. Each greeting is a child that runs; a child ends when its client says so, and is counted
 * out by its end of file before any greeting that came later. Prints how many there were at the most, and in all.
 */
const CROWD = `
path, count, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
inetd = int(sys.argv[4]) if len(sys.argv) > 4 else None
listening = listener()
clients, accepted = [], []
for _ in range(count):
    clients.append(socket.create_connection(listening.getsockname()))
    accepted.append(listening.accept()[0])
sent = 0
def sender():
    global sent
    with way_to(path) as way:
        for one in accepted:
            try:
                send(way, one)
                sent += 1
            except OSError:
                pass
            one.close()
thread = threading.Thread(target=sender)
thread.start()
poll = selectors.DefaultSelector()
for client in clients:
    client.setblocking(False)
    poll.register(client, selectors.EVENT_READ)
running, peak, served, turned_away = [], 0, 0, 0
greeted, told = set(), set()
while poll.get_map():
    news = [(key.fileobj, key.fileobj.recv(100)) for key, _ in poll.select()]
    for client, text in news:
        if text: continue
        poll.unregister(client)
        if client in greeted: running.remove(client)
        else: turned_away += 1
        client.close()
    for client, text in news:
        if not text or client in greeted: continue
        greeted.add(client)
        running.append(client)
        served += 1
        if inetd and served == count // 2:
            os.kill(inetd, 15)
    peak = max(peak, len(running))
    # One at a time is let go while the house is full, all when nobody is left to come in.
    rest = served + turned_away >= count or (inetd and served >= count // 2)
    for client in running if rest else running[:1] if len(running) >= limit else []:
        if client not in told:
            told.add(client)
            client.shutdown(socket.SHUT_WR)
thread.join()
say(peak=peak, served=served, turned_away=turned_away, sent=sent)`;

/** 2,000 connections, all made before the first is handed over. `pairs`: the client, and what was accepted. */
const HANDED_OVER = `
listening = listener()
pairs = [(socket.create_connection(listening.getsockname()), listening.accept()[0]) for _ in range(2000)]
def sender():
    with way_to(sys.argv[1]) as way:
        for _, accepted in pairs:
            send(way, accepted)
            accepted.close()
threading.Thread(target=sender, daemon=True).start()
`;

describe("limits, under 2,000 connections", () => {
  const GREET = "echo hi; read -r x";

  testPython("--max N: N children at a time, never one more, and all are served", async () => {
    using folder = scratch();
    await using server = await inetd(folder.file("s"), GREET, ["--max", "7"]);
    const [result] = said(await pythonOutput(CROWD, folder.file("s"), 2000, 7));
    expect(result).toEqual({ peak: 7, served: 2000, turned_away: 0, sent: 2000 });
    await server.stop(); // its log is whole now
    expect(server.log).toContain("pausing: limit of 7 reached (--max); connections wait");
    expect(server.log).not.toMatch(/\((?:[89]|\d\d+) running\)/);
    expect(server.log.match(/ start \d+: /g)).toHaveLength(2000);
  });

  testWith(
    program("python3"),
    program("nsenter"),
    program("ip"),
    root,
  )(
    "--per-source N: N for each IPv6 /64 and each IPv4 address, the rest refused and logged, a place is free again at once",
    async () => {
      using folder = scratch();
      await using host = await Namespace.local("-6 route add local 2001:db8::/32 dev lo");
      await using server = host.start([INETD, "--per-source", "3", folder.file("s"), ...sh(GREET)]);
      await server.until(/: ready: /);
      const script = `
import collections
four, six = listener("127.0.0.1"), listener("::1")
def visitor(source):
    listening = six if ":" in source else four
    client = socket.socket(listening.family)
    if ":" in source: client.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    client.bind((source, 0))
    client.connect(listening.getsockname()[:2])
    accepted, _ = listening.accept()
    hand(sys.argv[1], accepted)
    accepted.close()
    return client
# 8 prefixes of 200 addresses each, and 4 IPv4 addresses of 100 connections each.
sources = [(f"2001:db8:0:{n % 8}::{n:x}", f"net {n % 8}") for n in range(1600)]
sources += [(f"127.0.0.{n % 4 + 1}", f"127.0.0.{n % 4 + 1}") for n in range(400)]
visitors = [(visitor(source), name) for source, name in sources]
welcome, refused, inside = collections.Counter(), collections.Counter(), {}
for client, name in visitors:
    text = client.recv(3)
    (welcome if text == b"hi\\n" else refused)[name] += 1
    if text: inside.setdefault(name, []).append(client)
say(welcome=welcome, refused=sum(refused.values()))
# One leaves: one more has room, and only in that prefix.
leaving = inside["net 5"].pop()
leaving.shutdown(socket.SHUT_WR)
read_all(leaving)
import time
while (again := visitor("2001:db8:0:5::ffff")).recv(3) != b"hi\\n": time.sleep(0.01)
say(full=[visitor(s).recv(3).decode() for s in ["2001:db8:0:5::fffe", "2001:db8:0:6::fffe", "127.0.0.1"]], other=visitor("127.0.0.9").recv(3).decode())`;
      const { code, out } = await host.run(pythonCommand(script, folder.file("s")));
      expect(`${code}\n${code && out}`).toBe("0\n0");
      const names = [
        ...Array.from({ length: 8 }, (_, n) => `net ${n}`),
        ...[1, 2, 3, 4].map((n) => `127.0.0.${n}`),
      ];
      const [crowd, again] = said<Record<string, unknown>>(out);
      expect(crowd).toEqual({
        welcome: Object.fromEntries(names.map((name) => [name, 3])),
        refused: 2000 - 36,
      });
      expect(again).toEqual({ full: ["", "", ""], other: "hi\n" });
      await server.stop(); // its log is whole now
      const lines = server.log.match(/connection given up: limit \(--per-source\).*/g) ?? [];
      // Not one is missing, although there are few lines of a kind in a second.
      const counts = lines.map((line) => Number(/\((\d+) times more\)/.exec(line)?.[1] ?? 1));
      expect(counts.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(2000 - 36 + 3);
    },
  );

  testPython(
    "--rate N/TIME: at most N start in any TIME, by the kernel's own clock, and all are served",
    async () => {
      using folder = scratch();
      // Field 22 of stat is when the kernel started the process, in ticks of 10 ms (proc(5)).
      await using server = await inetd(folder.file("s"), "read -r line </proc/self/stat; echo $line", [
        "--rate",
        "50/200ms",
      ]);
      const script = `
import os
hertz = os.sysconf("SC_CLK_TCK")
${HANDED_OVER}
starts = sorted(int(ask(client).rpartition(")")[2].split()[19]) for client, _ in pairs)
window = hertz * 200 // 1000
shortest = min(b - a for a, b in zip(starts, starts[50:]))
# Two starts a window apart may be cut to one tick less.
say(served=len(starts), kept=shortest >= window - 1, slow=shortest > 2 * window)`;
      const out = await pythonOutput(script, folder.file("s"));
      const [result] = said<{ served: number; kept: boolean; slow: boolean }>(out);
      expect(result).toMatchObject({ served: 2000, kept: true });
      await server.stop(); // its log is whole now
      // A machine may be too slow for it.
      if (!result!.slow) expect(server.log).toContain("pausing: limit (--rate); connections wait");
      expect(server.log).not.toContain("given up");
    },
  );

  testPython(
    "--rate N/TIME: exactly N of 2,000 start while TIME has not passed, and the others wait unharmed",
    async () => {
      using folder = scratch();
      await using server = await inetd(folder.file("s"), "echo hi", ["--rate", "50/1h"]);
      const script = `
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
${HANDED_OVER}
served = [read_all(client) for client, _ in pairs[:50]]
say(served=served == ["hi\\n"] * 50)
signal.sigwait([signal.SIGUSR1])
waiting = selectors.DefaultSelector()
for client, _ in pairs[50:]: waiting.register(client, selectors.EVENT_READ)
say(heard=len(waiting.select(0)))`;
      await using clients = python(script, [folder.file("s")]);
      await clients.until(/"served": true/);
      await server.until(/pausing: limit \(--rate\); connections wait/);
      clients.kill("SIGUSR1");
      await clients.until(/"heard": 0/);
      expect(server.log.match(/ start \d+: /g)).toHaveLength(50);
      expect(server.log).not.toContain("given up");
    },
  );

  testPython(
    "--drain: after SIGTERM whatever was sent is served, and inetd ends when its last child has",
    async () => {
      using folder = scratch();
      await using server = await inetd(folder.file("s"), GREET, ["--drain", "1m", "--max", "40"]);
      const out = await pythonOutput(CROWD, folder.file("s"), 2000, 40, server.pid);
      const [result] = said<{ peak: number; served: number; turned_away: number; sent: number }>(out);
      expect(await server.ended()).toBe(EXIT.ok);
      expect(result!.sent).toBeLessThan(2000); // else the test has not tested anything
      expect(result).toEqual({
        peak: 40,
        served: result!.sent,
        turned_away: 2000 - result!.sent,
        sent: result!.sent,
      });
      const lines = (pattern: RegExp) => server.log.match(pattern)?.length;
      expect(lines(/ start \d+: /g)).toBe(result!.sent);
      expect(lines(/ end \d+: exited /g)).toBe(result!.sent);
      expect(existsSync(folder.file("s"))).toBe(false);
    },
  );
});

testPython("a program that cannot be started takes no place from its source (--per-source)", async () => {
  using folder = scratch();
  const program = folder.file("neither-a-program-nor-a-script");
  writeFileSync(program, "\0");
  chmodSync(program, 0o755);
  const words = ["--per-source", "1", folder.file("s"), program];
  await using server = await ready("socketbox-inetd", words);
  for (let time = 0; time < 3; time++) expect(await askThrough(folder.file("s"))).toBe("");
  await server.stop();
  expect(server.log.match(/given up: start .*: ENOEXEC/g)).toHaveLength(3);
});
