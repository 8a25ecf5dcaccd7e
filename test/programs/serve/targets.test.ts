/** -f -S -i -P -U: where connections come from and go to, and in what condition they arrive. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { EXIT } from "../../../src/programs/host.ts";
import { python, said } from "../../kit/python.ts";
import { ask, freePort, ready, run, scratch } from "../../kit/running.ts";
import { receiver, type Seen, SOCKETBOX, seenBy, testPython, testRoot } from "./server.ts";

/** The example of the line format's documentation, with paths of this test in place of /run. */
const example = (run: string) => `max-maps:1
max-rules:2
map-set:0 size:3
match-lip:128
match-lport
ip:::ffff:127.0.0.1 port:PORT jump-unix:${run}/a-ssh
ip:::ffff:127.0.0.2 port:PORT jump-unix:${run}/a-web
default jump-rule:1
rule-set:0 size:2
rip:::ffff:127.0.0.9 fail
ip:::ffff:127.0.0.0/126 jump-map:0
rule-set:1 size:1
ip:::3/::ff jump-unix:${run}/b-any
default fail
`;

describe("-f", () => {
  testPython("routes by the file: rule lists, maps, masks, defaults and refusals", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("routes.conf");
    writeFileSync(file, example(folder.path).replaceAll("PORT", String(port)));
    await using _ssh = await receiver(folder.file("a-ssh"), "ssh");
    await using _web = await receiver(folder.file("a-web"), "web");
    await using _any = await receiver(folder.file("b-any"), "any");
    await using server = await ready("socketbox", ["-f", file, "-p", String(port)]);
    const addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.0"];
    const answers = await Promise.all(
      addresses.slice(0, 4).map((address) => ask(port, address).catch(() => "reset")),
    );
    expect(answers).toEqual(["ssh", "web", "any", ""]);
    // No rule fits 127.0.0.4; 127.0.0.5 as a client would be refused by name.
    await server.until(
      /connection given up: no-route: \[::ffff:127\.0\.0\.1\]:\d+ -> \[::ffff:127\.0\.0\.4\]/,
    );
    expect(await server.stop()).toBe(0);
    expect(server.log).toContain("stopped: 4 accepted, 3 delivered, 1 no-route");
  });

  testPython("a refusal is logged as denied, and reaches nobody", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("a.conf");
    writeFileSync(file, `rule-set:0\nip:127.0.0.2 fail\ndefault jump-unix:${folder.file("r")}\n`);
    await using target = await receiver(folder.file("r"), "here");
    await using server = await ready("socketbox", ["-f", file, "-p", String(port)]);
    expect(await ask(port, "127.0.0.2")).toBe("");
    expect(await ask(port, "127.0.0.1")).toBe("here");
    await server.until(/connection given up: denied: .* -> \[::ffff:127\.0\.0\.2\]/);
    expect(await seenBy(target, 1)).toHaveLength(1);
  });

  test("a file that is wrong or missing is exit code 1, with every error, before anything listens", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("a.conf");
    writeFileSync(file, "rule-set:0\nport:0 fail\njump:a\n");
    const wrong = await run([SOCKETBOX, "-f", file, "-p", String(port)]);
    expect(wrong.code).toBe(EXIT.refused);
    expect(wrong.out).toContain(`${file}:2:6: error: port 0 is out of range`);
    expect(wrong.out).toContain(`${file}:3:1: error: "jump:a"`);
    expect(wrong.out).not.toContain("ready");
    const missing = await run([SOCKETBOX, "-f", folder.file("none"), "-p", String(port)]);
    expect(missing.code).toBe(EXIT.refused);
    expect(missing.out).toContain(folder.file("none"));
  });
});

describe("-S", () => {
  testPython(
    "sends everything to one receiver, without a configuration, one blocking socket in each datagram",
    async () => {
      using folder = scratch();
      const port = await freePort();
      await using target = await receiver(folder.file("r"), "here");
      await using server = await ready("socketbox", [
        "-S",
        folder.file("r"),
        "-p",
        String(port),
        "-f",
        "/no/such/file",
      ]);
      const answers = await Promise.all([1, 2, 3, 4].map((n) => ask(port, `127.0.0.${n}`)));
      expect(answers).toEqual(Array(4).fill("here"));
      for (const seen of await seenBy(target, 4)) {
        expect(seen).toMatchObject({ payload: "00", descriptors: 1, nonblocking: false });
        expect(seen.remote[0]).toMatch(/^::ffff:127\./);
      }
      expect(await server.stop()).toBe(0);
    },
  );

  testPython(
    "takes a name in the abstract namespace, and a path relative to where it was started",
    async () => {
      using folder = scratch();
      const name = `@socketbox-test-${process.pid}-s`;
      await using _abstract = await receiver(name, "abstract");
      await using _relative = await receiver(folder.file("r"), "relative");
      for (const [path, answer] of [
        [name, "abstract"],
        ["r", "relative"],
        ["./r", "relative"],
      ] as const) {
        const port = await freePort();
        await using _server = await ready("socketbox", ["-S", path, "-p", String(port)], {
          cwd: folder.path,
        });
        expect(await ask(port, "::1")).toBe(answer);
      }
    },
  );
});

describe("-U", () => {
  testPython(
    "fills local address and port into paths, of -S and of the file; without it they stand as they are",
    async () => {
      using folder = scratch();
      const port = await freePort();
      const digits = (value: number) => String(value).padStart(5, "0");
      const filled = folder.file(`${digits(0x7f00)}-${digits(2)}-${digits(port)}`);
      const pattern = `${folder.path}/#//6_-#//7_-#//P_`; // join() would make one slash of two
      const file = folder.file("u.conf");
      writeFileSync(file, `rule-set:0\njump-unix:${pattern}\n`);
      await using _filled = await receiver(filled, "filled");
      mkdirSync(dirname(pattern), { recursive: true }); // taken as it stands, the pattern has folders in it
      await using _plain = await receiver(pattern, "plain");
      const answer = async (...words: string[]) => {
        await using server = await ready("socketbox", [...words, "-p", String(port)]);
        const text = await ask(port, "127.0.0.2");
        await server.stop();
        return text;
      };
      expect(await answer("-U", "-S", pattern)).toBe("filled");
      expect(await answer("-S", pattern)).toBe("plain");
      expect(await answer("-U", "-f", file)).toBe("filled");
      expect(await answer("-f", file)).toBe("plain");
    },
  );
});

describe("-i", () => {
  /**
   * The other end of an inherited socket: takes `count` connections, then goes, and says how the server ended. It is
   * in the server's process group, and must live on.
   */
  const KEEPER = `
import subprocess
kind = getattr(socket, sys.argv[1])
ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
server = subprocess.Popen([sys.argv[2], "-i", str(theirs.fileno()), "-p", sys.argv[3]], pass_fds=[theirs.fileno()])
theirs.close()
for n in range(3):
    payload, descriptors = take(ours)
    sock, seen = facts(descriptors[0])
    say(payload=payload.hex(), descriptors=len(descriptors), **seen)
    sock.sendall(f"number {n}".encode())
    sock.close()
ours.close()
say(gone=True)
say(exit=server.wait())`;

  for (const kind of ["SOCK_STREAM", "SOCK_SEQPACKET", "SOCK_DGRAM"] as const) {
    testPython(
      `sends everything over an inherited ${kind} socket, and ends with 11 when its peer has gone`,
      async () => {
        const port = await freePort();
        await using keeper = python(KEEPER, [kind, SOCKETBOX, port]);
        await keeper.until(/: ready: /);
        for (let n = 0; n < 3; n++) expect(await ask(port, "127.0.0.1")).toBe(`number ${n}`);
        await keeper.until(/gone/);
        // A datagram socket learns that its peer has gone by sending to it.
        if (kind === "SOCK_DGRAM") await ask(port, "127.0.0.1").catch(() => "");
        expect(await keeper.ended()).toBe(0);
        const lines = said<Partial<Seen> & { exit?: number }>(keeper.out);
        for (const seen of lines.slice(0, 3)) {
          expect(seen).toMatchObject({ payload: "00", descriptors: 1, nonblocking: false });
        }
        expect(lines.at(-1)).toEqual({ exit: EXIT.peerGone });
        expect(keeper.log).toContain("its peer has gone");
      },
    );
  }

  test("refuses a descriptor that is no Unix socket before anything listens", async () => {
    const port = await freePort();
    for (const fd of ["0", "99"]) {
      const { code, out } = await run([SOCKETBOX, "-i", fd, "-p", String(port)]);
      expect([code, out.includes("ready")]).toEqual([EXIT.refused, false]);
      expect(out).toContain(`descriptor ${fd} is not an inherited Unix socket`);
    }
  });
});

describe("-P", () => {
  /** A server that the one under test registers with. */
  const REGISTRY = `
path = sys.argv[1]
with receiver(path, socket.SOCK_SEQPACKET) as door:
    say(listening=True)
    way, _ = door.accept()
    say(request=way.recv(100).hex())
    if sys.argv[2] == "refuse": sys.exit()
    way.send(bytes([0x80, 0, 0, 0]))
    for address in ["127.0.0.1", "::1"]:
        client, accepted = connection(address)
        if sys.argv[2] == "transparent" and address == "::1":
            accepted.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        send(way, accepted, payload=b"\\x03\\0\\0\\0")
        accepted.close()
        say(answer=read_all(client))
        client.close()
    hand_over_nothing = send(way, payload=b"\\x03\\0\\0\\0")
    way.close()`;

  testPython(
    "takes the connections of a slot and routes them, and ends with 11 when the server has gone",
    async () => {
      using folder = scratch();
      const file = folder.file("p.conf");
      writeFileSync(
        file,
        `rule-set:0\nip:::1 jump-unix:${folder.file("six")}\ndefault jump-unix:${folder.file("four")}\n`,
      );
      await using six = await receiver(folder.file("six"), "six");
      await using four = await receiver(folder.file("four"), "four");
      await using registry = python(REGISTRY, [folder.file("registry"), "answer"]);
      await registry.until(/listening/);
      await using server = await ready("socketbox", ["-P", `258:${folder.file("registry")}`, "-f", file]);
      expect(await server.ended()).toBe(EXIT.peerGone);
      expect(await registry.ended()).toBe(0);
      expect(said(registry.out).slice(1)).toEqual([
        { request: "0100000000000102" },
        { answer: "four" },
        { answer: "six" },
      ]);
      expect(server.log).toMatch(/stopped: 3 accepted, 2 delivered, 1 bad-message\n$/);
      for (const target of [six, four]) {
        const seen = await seenBy(target, 1);
        expect(seen).toHaveLength(1);
        expect(seen[0]).toMatchObject({ payload: "00", descriptors: 1, nonblocking: false });
      }
      expect(server.log).toContain("the server that we registered with has gone");
    },
  );

  testRoot("-z clears what comes, too, although it was accepted elsewhere", async () => {
    using folder = scratch();
    for (const [words, transparent] of [
      [[], 1],
      [["-z"], 0],
    ] as const) {
      const [path, registryPath] = [folder.file(`r${transparent}`), folder.file(`g${transparent}`)];
      await using target = await receiver(path);
      await using registry = python(REGISTRY, [registryPath, "transparent"]);
      await registry.until(/listening/);
      await using server = await ready("socketbox", ["-P", `1:${registryPath}`, "-S", path, ...words]);
      expect(await server.ended()).toBe(EXIT.peerGone);
      expect((await seenBy(target, 2))[1]).toMatchObject({ local: ["::1", expect.anything()], transparent });
    }
  });

  testPython("outranks -l, -p and the listeners of the file, and says so", async () => {
    using folder = scratch();
    const file = folder.file("two.toml");
    const listen = (name: string, port: number) =>
      `[[listen]]\nname = "${name}"\naddress = "::1"\nport = ${port}\n`;
    writeFileSync(file, `${listen("a", 1)}${listen("b", 2)}[[route]]\nto = "unix:${folder.file("r")}"\n`);
    await using _target = await receiver(folder.file("r"), "here");
    for (const [words, warning] of [
      [["-p", "1"], ": -P leaves -p without effect\n"],
      [["-FRrtb1", "-l", "::1"], ": -P leaves -l, -t, -F, -R, -r, -b without effect\n"],
      [[], ": -P outranks the configuration: listeners without a socket: a, b\n"],
    ] as const) {
      await using registry = python(REGISTRY, [folder.file(`registry${words}`), "answer"]);
      await registry.until(/listening/);
      const args = ["-P", `1:${folder.file(`registry${words}`)}`, "-f", file, ...words];
      await using server = await ready("socketbox", args);
      expect(await server.ended()).toBe(EXIT.peerGone);
      expect(server.log.match(/: -P (outranks|leaves) .*\n/g)).toEqual([warning]);
      expect(said(registry.out).slice(2)).toEqual([{ answer: "here" }, { answer: "here" }]);
    }
  });

  testPython("says that it was refused, or that nobody is there", async () => {
    using folder = scratch();
    await using registry = python(REGISTRY, [folder.file("registry"), "refuse"]);
    await registry.until(/listening/);
    const refused = await run([SOCKETBOX, "-P", `1:${folder.file("registry")}`, "-S", "@nobody"]);
    expect(refused.code).toBe(EXIT.system);
    expect(refused.out).toContain("the server refused");
    const nobody = await run([SOCKETBOX, "-P", `1:${folder.file("none")}`, "-S", "@nobody"]);
    expect(nobody.code).toBe(EXIT.system);
    expect(nobody.out).toContain("ENOENT");
  });
});
