/** Both ways in which socketbox-inetd gets connections, and what it does with each. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { EXIT } from "../../../src/programs/host.ts";
import { python, pythonOutput, said } from "../../kit/python.ts";
import { bin, Running, ready, run, scratch } from "../../kit/running.ts";
import { askThrough, INETD, inetd, sh, testPython } from "./inetd.ts";

/** What a server does for registered receivers: answers, then sends each connection of `count` and hears the answer. */
const REGISTRY = `
path, count = sys.argv[1], int(sys.argv[2])
with receiver(path, socket.SOCK_SEQPACKET) as door:
    say(ready=path)
    way, _ = door.accept()
    say(request=way.recv(100).hex())
    way.send(bytes.fromhex(sys.argv[3]))
    for n in range(count):
        client, accepted = connection()
        send(way, accepted, payload=b"\\x03\\0\\0\\0")
        accepted.close()
        say(answer=ask(client, f"number {n}"))
        client.close()
    way.close()
`;

describe("SOCKET PROGRAM", () => {
  testPython(
    "starts the program with the connection as its standard input and output; errors stay ours",
    async () => {
      using folder = scratch();
      await using server = await inetd(folder.file("s"), 'read -r x; echo "heard $x"; echo "trouble $x" >&2');
      expect(await askThrough(folder.file("s"), "one\n")).toBe("heard one\n");
      expect(await askThrough(folder.file("s"), "two\n")).toBe("heard two\n");
      await server.until(/trouble one\n/);
      await server.until(/trouble two\n/);
      expect(await server.stop()).toBe(0);
      expect(existsSync(folder.file("s"))).toBe(false);
    },
  );

  testPython("passes the program's own arguments on, those that look like ours too", async () => {
    using folder = scratch();
    const words = [folder.file("s"), "/bin/echo", "-u", "--max", "a b", "", "--", "-h"];
    await using _server = await ready("socketbox-inetd", words);
    expect(await askThrough(folder.file("s"))).toBe("-u --max a b  -- -h\n");
  });

  testPython("finds a program on PATH, and takes a socket in the abstract namespace", async () => {
    const name = `@socketbox-test-${process.pid}`;
    await using _server = await ready("socketbox-inetd", [name, "echo", "here"]);
    expect(await askThrough(name)).toBe("here\n");
  });

  testPython("logs how each program ended, and after how long", async () => {
    using folder = scratch();
    await using server = await inetd(
      folder.file("s"),
      'read -r x; sleep 0.2; [ "$x" = kill ] && kill -9 $$; exit "$x"',
    );
    for (const [word, ending] of [
      ["0", "exited 0"],
      ["3", "exited 3"],
      ["kill", "killed by SIGKILL"],
    ]) {
      await askThrough(folder.file("s"), `${word}\n`);
      const [, start, seconds] = await server.until(
        new RegExp(`end (\\d+): ${ending} after (\\d+\\.\\d{3}) s \\(0 running\\)`),
      );
      expect(Number(seconds)).toBeGreaterThanOrEqual(0.2);
      expect(server.log).toMatch(
        new RegExp(
          `start ${start}: \\[::ffff:127\\.0\\.0\\.1\\]:\\d+ -> \\[::ffff:127\\.0\\.0\\.1\\]:\\d+ \\(1 running\\)`,
        ),
      );
    }
  });

  testPython("gives a connection up, says so, and goes on, when the program cannot be started", async () => {
    using folder = scratch();
    const tool = folder.file("tool");
    writeFileSync(tool, "#!/no/such/interpreter\n");
    chmodSync(tool, 0o755);
    await using server = await ready("socketbox-inetd", [folder.file("s"), tool]);
    expect(await askThrough(folder.file("s"))).toBe("");
    await server.until(/connection given up: start \S+tool: ENOENT .*: \[::ffff:127\.0\.0\.1\]:\d+ -> /);
    writeFileSync(tool, "#!/bin/sh\necho mended\n");
    expect(await askThrough(folder.file("s"))).toBe("mended\n");
  });

  test("is refused when the program is not there", async () => {
    using folder = scratch();
    const { code, out } = await run([INETD, folder.file("s"), "no-such-program"]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain("find program no-such-program: ENOENT");
    expect(existsSync(folder.file("s"))).toBe(false);
  });
});

describe("socketbox-inetd-p", () => {
  testPython(
    "registers, starts its program for what is sent, and ends with 11 when the server has gone",
    async () => {
      using folder = scratch();
      const path = folder.file("registry");
      await using registry = python(REGISTRY, [path, 3, "80000000"]);
      await registry.until(/ready/);
      await using client = await ready("socketbox-inetd-p", [
        path,
        "4026531841",
        ...sh('read -r x; echo "heard $x"'),
      ]);
      expect(await client.ended()).toBe(EXIT.peerGone);
      expect(await registry.ended()).toBe(0);
      expect(said(registry.out)).toEqual([
        { ready: path },
        { request: "01000000f0000001" },
        ...[0, 1, 2].map((n) => ({ answer: `heard number ${n}\n` })),
      ]);
      expect(client.log).toContain("the server has gone");
      // It is the server's, not ours to remove.
      expect(existsSync(path)).toBe(true);
    },
  );

  for (const [answer, message] of [
    ["", "the server refused"],
    ["81000000", "not an answer"],
    ["8000000000", "not an answer"],
  ] as const) {
    testPython(`takes an answer of "${answer}" for a refusal`, async () => {
      using folder = scratch();
      const path = folder.file("registry");
      await using registry = python(REGISTRY, [path, 0, answer]);
      await registry.until(/ready/);
      const { code, out } = await run([bin("socketbox-inetd-p"), path, "1", "/bin/true"]);
      expect(code).toBe(EXIT.system);
      expect(out).toContain(message);
      await registry.ended();
    });
  }

  test("says when nobody is at the path", async () => {
    using folder = scratch();
    const { code, out } = await run([bin("socketbox-inetd-p"), folder.file("none"), "1", "/bin/true"]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain(`register for slot 1 at ${folder.file("none")}: ENOENT`);
  });
});

describe("what is received", () => {
  /** The program says what it was given. */
  const SAY = 'read -r x; echo "heard $x"';

  testPython("is the first descriptor of a message; every further one is closed", async () => {
    using folder = scratch();
    await using _server = await inetd(folder.file("s"), SAY);
    const script = `
pairs = [connection() for _ in range(4)]
with way_to(sys.argv[1]) as way:
    numbers = [array.array("i", [a.fileno()]) for _, a in pairs]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers[0] + numbers[1])]
    rights += [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers[2] + numbers[3])]
    way.sendmsg([b"\\0"], rights)
for _, accepted in pairs: accepted.close()
print([ask(client, "first\\n") if n == 0 else read_all(client) for n, (client, _) in enumerate(pairs)])`;
    expect(await pythonOutput(script, folder.file("s"))).toBe("['heard first\\n', '', '', '']\n");
  });

  testPython("may come with any payload, of any length", async () => {
    using folder = scratch();
    await using _server = await inetd(folder.file("s"), SAY);
    const script = `
for payload in [b"\\0", b"\\x03\\0\\0\\0", b"x" * 128, b"y" * 4000]:
    client, accepted = connection()
    hand(sys.argv[1], accepted, payload=payload)
    accepted.close()
    print(ask(client, f"{len(payload)}\\n"), end="")`;
    expect(await pythonOutput(script, folder.file("s"))).toBe("heard 1\nheard 4\nheard 128\nheard 4000\n");
  });

  /** One message with each kind of descriptor, then a plain connection, which shows that all were looked at. */
  const KINDS = `
path = sys.argv[1]
hand(path)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 0)); hand(path, udp)
unix, theirs = socket.socketpair(); hand(path, theirs); theirs.close()
print("unix", repr(ask(unix, "u\\n")))
pipe, end = os.pipe(); hand(path, end); os.close(end)
print("pipe", repr(os.read(pipe, 100)))
hand(path, listener())
print("tcp", repr(ask_through(path, "t\\n")))`;
  const NO_SOCKET = "dropped a message: there is no socket in it";
  const WRONG = "dropped a message: what is in it is not a connection";

  const dropped = (log: string) => [...log.matchAll(/dropped a message: [^\n]*/g)].map(([line]) => line);

  testPython(
    "must be a connection (SKBOX_STRICT_STREAM_MODE 2, and without it); a drop is logged and ends nothing",
    async () => {
      for (const mode of [undefined, "2"]) {
        using folder = scratch();
        const env = { SKBOX_STRICT_STREAM_MODE: mode };
        await using server = await inetd(folder.file("s"), SAY, [], { env });
        expect(await pythonOutput(KINDS, folder.file("s"))).toBe(
          "unix 'heard u\\n'\npipe b''\ntcp 'heard t\\n'\n",
        );
        await server.stop(); // its log is whole now
        expect(dropped(server.log)).toEqual([NO_SOCKET, WRONG, WRONG, WRONG]);
      }
    },
  );

  testPython("must be a stream socket in mode 1, listening ones too", async () => {
    using folder = scratch();
    await using server = await inetd(folder.file("s"), 'read -r x; echo "heard $x"; true', [], {
      env: { SKBOX_STRICT_STREAM_MODE: "1" },
    });
    expect(await pythonOutput(KINDS, folder.file("s"))).toBe(
      "unix 'heard u\\n'\npipe b''\ntcp 'heard t\\n'\n",
    );
    await server.stop(); // its log is whole now
    expect(dropped(server.log).slice(0, 3)).toEqual([NO_SOCKET, WRONG, WRONG]);
  });

  testPython("may be anything in mode 0", async () => {
    using folder = scratch();
    await using server = await inetd(folder.file("s"), "echo hello", [], {
      env: { SKBOX_STRICT_STREAM_MODE: "0" },
    });
    const script = `
pipe, end = os.pipe(); hand(sys.argv[1], end); os.close(end)
print(os.read(pipe, 100))`;
    expect(await pythonOutput(script, folder.file("s"))).toBe("b'hello\\n'\n");
    await pythonOutput("hand(sys.argv[1])", folder.file("s"));
    await server.until(new RegExp(NO_SOCKET));
  });

  testPython("waits while no descriptor is free, and none of it is lost", async () => {
    using folder = scratch();
    const path = folder.file("s");
    await using server = new Running(
      sh(`ulimit -n 40; exec '${INETD}' ${path} ${"/bin/sh -c 'read -r x; echo \"heard $x\"'"}`),
    );
    await server.until(/: ready: /);
    const script = `
N = 120
pairs = [connection() for _ in range(N)]
def sender():
    with way_to(sys.argv[1]) as way:
        for _, accepted in pairs:
            send(way, accepted)
            accepted.close()
threading.Thread(target=sender).start()
while not os.path.exists(sys.argv[2]): pass
print(sum(ask(client, f"{n}\\n") == f"heard {n}\\n" for n, (client, _) in enumerate(pairs)))`;
    await using clients = python(script, [path, folder.file("go")]);
    await server.until(/pausing: EMFILE/);
    writeFileSync(folder.file("go"), "");
    expect(await clients.ended()).toBe(0);
    expect(clients.out).toBe("120\n");
    await server.stop(); // its log is whole now
    expect(server.log).not.toContain("given up");
  });
});
