/** -l -p -t -F -R -r -b -z -s: the listener is what the command line says, seen from the kernel's side. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { EXIT } from "../../../src/programs/host.ts";
import { Namespace } from "../../kit/namespace.ts";
import { python, said } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ask, freePort, Running, ready, run, scratch } from "../../kit/running.ts";
import { askIn, receiver, SOCKETBOX, seenBy, startIn, testNamespace, testPython } from "./server.ts";

const ADDRESS = "2001:db8::1";
const LOCAL_ROUTE = "-6 route add local 2001:db8::/64 dev lo";

describe("-l and -p", () => {
  testNamespace("without them the server listens on port 80 of every address, IPv4 and IPv6", async () => {
    using folder = scratch();
    await using host = await Namespace.local();
    await using target = await receiver(folder.file("r"), "here");
    await using _server = await startIn(host, ["-S", folder.file("r")]);
    for (const address of ["127.0.0.1", "127.9.9.9", "::1"]) {
      expect(await askIn(host, address, 80)).toBe("here");
    }
    expect((await seenBy(target, 3)).map(({ local }) => local)).toEqual([
      ["::ffff:127.0.0.1", 80],
      ["::ffff:127.9.9.9", 80],
      ["::1", 80],
    ]);
  });

  testNamespace("-l takes connections to that address alone, -p to that port", async () => {
    using folder = scratch();
    await using host = await Namespace.local();
    await using _target = await receiver(folder.file("r"), "here");
    for (const [given, address, other] of [
      ["127.0.0.2", "127.0.0.2", "127.0.0.1"],
      ["::ffff:127.0.0.2", "127.0.0.2", "::1"],
      ["::1", "::1", "127.0.0.1"],
    ] as const) {
      await using _server = await startIn(host, ["-l", given, "-p", "8080", "-S", folder.file("r")]);
      expect(await askIn(host, address, 8080)).toBe("here");
      expect(await askIn(host, other, 8080)).toBe("refused");
      expect(await askIn(host, address, 80)).toBe("refused");
    }
  });

  testNamespace("-l takes a link-local address with its interface, by name or number", async () => {
    using folder = scratch();
    await using host = await Namespace.local("addr add fe80::1/64 dev lo nodad");
    await using _target = await receiver(folder.file("r"), "here");
    for (const scope of ["lo", "1"]) {
      await using _server = await startIn(host, [
        "-l",
        `fe80::1%${scope}`,
        "-p",
        "8080",
        "-S",
        folder.file("r"),
      ]);
      expect(await askIn(host, "fe80::1%lo", 8080)).toBe("here");
      expect(await askIn(host, "::1", 8080)).toBe("refused");
    }
  });

  test.each([
    ["fe80::1%none", 'there is no interface "none"; expected an interface\'s name or number'],
    ["fe80::1%0", "scope 0 is out of range; expected 1 to 4294967295"],
    ["fe80::1%1%2", '"fe80::1%1%2" is not an address; expected an IPv6 or a dotted IPv4 address'],
  ])("-l %s is refused", async (address, why) => {
    const { code, out } = await run([SOCKETBOX, "-l", address, "-S", "@nobody"]);
    expect(code).toBe(EXIT.usage);
    expect(out).toContain(why);
  });

  test("an address in use is exit code 3, and says which", async () => {
    const port = await freePort();
    await using _first = await ready("socketbox", ["-p", String(port), "-S", "@nobody"]);
    const { code, out } = await run([SOCKETBOX, "-p", String(port), "-S", "@nobody"]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain(`bind [::]:${port}: EADDRINUSE (address already in use)`);
  });

  testNamespace("-l replaces every listener of the file, other options hold for each of them", async () => {
    using folder = scratch();
    await using host = await Namespace.local();
    await using target = await receiver(folder.file("r"), "here");
    const file = folder.file("two.toml");
    const listen = (port: number) => `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n`;
    writeFileSync(file, `${listen(81)}${listen(82)}[[route]]\nto = "unix:${folder.file("r")}"\n`);
    {
      await using _server = await startIn(host, ["-f", file, "-t", "-R"]);
      expect([await askIn(host, "127.0.0.1", 81), await askIn(host, "127.0.0.1", 82)]).toEqual([
        "here",
        "here",
      ]);
      expect((await seenBy(target, 2)).map((seen) => [seen.transparent, seen.reuse_address])).toEqual([
        [1, 0],
        [1, 0],
      ]);
    }
    await using _server = await startIn(host, ["-f", file, "-p", "83"]);
    expect(await askIn(host, "::1", 83)).toBe("here");
    expect(await askIn(host, "127.0.0.1", 81)).toBe("refused");
  });
});

describe("-t, -F and -z", () => {
  testNamespace("without -t and -F an address that is not ours cannot be listened on", async () => {
    await using host = await Namespace.local();
    const { code, out } = await host.run([SOCKETBOX, "-l", ADDRESS, "-S", "@nobody"]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain(`bind [${ADDRESS}]:80: EADDRNOTAVAIL (no such address on this host)`);
  });

  testNamespace(
    "-t listens on it with IPV6_TRANSPARENT, -F with IPV6_FREEBIND, and connections inherit that",
    async () => {
      using folder = scratch();
      await using host = await Namespace.local();
      await using target = await receiver(folder.file("r"), "here");
      for (const option of ["-t", "-F", "-tF"]) {
        await using _server = await startIn(host, [option, "-l", ADDRESS, "-S", folder.file("r")]);
        await host.ip(LOCAL_ROUTE);
        expect(await askIn(host, ADDRESS, 80)).toBe("here");
        await host.ip("-6 route del local 2001:db8::/64 dev lo");
      }
      expect((await seenBy(target, 3)).map(({ transparent, freebind }) => [transparent, freebind])).toEqual([
        [1, 0],
        [0, 1],
        [1, 1],
      ]);
    },
  );

  testNamespace("-z clears IPV6_TRANSPARENT on what is handed over, and on nothing else", async () => {
    using folder = scratch();
    await using host = await Namespace.local(LOCAL_ROUTE);
    await using target = await receiver(folder.file("r"), "here");
    await using _server = await startIn(host, ["-tFz", "-l", ADDRESS, "-S", folder.file("r")]);
    for (let n = 0; n < 2; n++) expect(await askIn(host, ADDRESS, 80)).toBe("here");
    expect((await seenBy(target, 2)).map(({ transparent, freebind }) => [transparent, freebind])).toEqual([
      [0, 1],
      [0, 1],
    ]);
  });
});

describe("-R and -r", () => {
  testNamespace("SO_REUSEADDR is set unless -R, SO_REUSEPORT only with -r", async () => {
    using folder = scratch();
    await using host = await Namespace.local();
    await using target = await receiver(folder.file("r"), "here");
    for (const [port, option] of [[81], [82, "-R"], [83, "-r"]] as const) {
      await using _server = await startIn(host, [
        ...(option ? [option] : []),
        "-p",
        String(port),
        "-S",
        folder.file("r"),
      ]);
      await askIn(host, "::1", port);
    }
    expect((await seenBy(target, 3)).map((seen) => [seen.reuse_address, seen.reuse_port])).toEqual([
      [1, 0],
      [0, 0],
      [1, 1],
    ]);
  });

  testNamespace("with -R a port is not taken over from connections that have just been closed", async () => {
    using folder = scratch();
    await using host = await Namespace.local();
    await using _target = await receiver(folder.file("r"), "here");
    // The receiver closes first, so that its end, with the server's port, stays in TIME_WAIT.
    {
      await using server = await startIn(host, ["-S", folder.file("r")]);
      expect(await askIn(host, "::1", 80)).toBe("here");
      expect(await server.stop()).toBe(0);
    }
    const { code, out } = await host.run([SOCKETBOX, "-R", "-S", folder.file("r")]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain("EADDRINUSE");
    await using _again = await startIn(host, ["-S", folder.file("r")]);
    expect(await askIn(host, "::1", 80)).toBe("here");
  });
});

describe("-b", () => {
  testWith(
    program("ss"),
    program("nsenter"),
    program("ip"),
    root,
  )("sets the backlog, which is 4096 without it", async () => {
    await using host = await Namespace.local();
    for (const [port, words, backlog] of [
      ["81", [], "4096"],
      ["82", ["-b", "7"], "7"],
      ["83", ["-b7", "-r"], "7"],
    ] as const) {
      await using _server = await startIn(host, [...words, "-p", port, "-S", "@nobody"]);
      const { out } = await host.run(["ss", "-ltnH", `sport = :${port}`]);
      // State, Recv-Q and Send-Q, which is the backlog of a listener (ss(8)).
      expect(out.trim().split(/\s+/).slice(0, 3)).toEqual(["LISTEN", "0", backlog]);
    }
  });
});

describe("-s", () => {
  /** Becomes the server, which inherits a listener made here. */
  const INHERIT = `
family = socket.AF_INET if sys.argv[1] == "4" else socket.AF_INET6
listening = socket.socket(family, socket.SOCK_STREAM)
listening.bind(("127.0.0.1" if sys.argv[1] == "4" else "::1", 0))
if sys.argv[2] == "listening": listening.listen()
os.set_inheritable(listening.fileno(), True)
say(port=listening.getsockname()[1])
os.execv(sys.argv[3], [sys.argv[3], "-s", str(listening.fileno()), *sys.argv[4:]])`;

  for (const [version, state] of [
    ["6", "bound"],
    ["6", "listening"],
    ["4", "bound"],
    ["4", "listening"],
  ] as const) {
    testPython(`takes an inherited IPv${version} socket that is ${state}`, async () => {
      using folder = scratch();
      await using target = await receiver(folder.file("r"), "here");
      await using server = python(INHERIT, [version, state, SOCKETBOX, "-S", folder.file("r")]);
      await server.until(/"port"/);
      await server.until(/ready: inherited descriptor \d+; all to /);
      const { port } = said<{ port: number }>(server.out)[0]!;
      const address = version === "4" ? "127.0.0.1" : "::1";
      expect(await ask(port, address)).toBe("here");
      expect((await seenBy(target, 1))[0]).toMatchObject({ local: [address, port], nonblocking: false });
      expect(await server.stop()).toBe(0);
    });
  }

  testPython("outranks -l, -p and further listeners of the file, and says so", async () => {
    using folder = scratch();
    const file = folder.file("two.toml");
    const listen = (name: string, port: number) =>
      `[[listen]]\nname = "${name}"\naddress = "::1"\nport = ${port}\n`;
    writeFileSync(file, `${listen("a", 1)}${listen("b", 2)}[[route]]\nto = "deny"\n`);
    for (const [words, warning] of [
      [["-p", "1"], ": -s leaves -p without effect\n"],
      [["-RFrt", "-l", "::1"], ": -s leaves -l, -t, -F, -R, -r without effect\n"],
      [[], ": -s outranks the configuration: listeners without a socket: b\n"],
    ] as const) {
      await using server = python(INHERIT, ["6", "bound", SOCKETBOX, "-f", file, ...words]);
      await server.until(/: ready: inherited descriptor/);
      expect(server.log).toContain(warning);
    }
  });

  testPython("refuses a descriptor that is no TCP socket, or not open at all", async () => {
    for (const [fd, error] of [
      ["0", "ENOTSOCK"],
      ["99", "EBADF"],
    ]) {
      const { code, out } = await run([SOCKETBOX, "-s", fd!, "-S", "@nobody"]);
      expect(code).toBe(EXIT.system);
      expect(out).toContain(`inherited listener ${fd}: ${error} `);
    }
    const script = `
one, other = socket.socketpair()
os.set_inheritable(one.fileno(), True)
os.execv(sys.argv[1], [sys.argv[1], "-s", str(one.fileno()), "-S", "@nobody"])`;
    await using server = python(script, [SOCKETBOX]);
    expect(await server.ended()).toBe(EXIT.system);
    expect(server.log).toContain("EPROTOTYPE (another kind of socket)");
  });
});

describe("SIGTERM", () => {
  test("whoever reads that it is ready can stop it, with a farewell", async () => {
    const starts = Array.from({ length: 8 }, async () => {
      await using server = new Running([SOCKETBOX, "-S", "@nobody", "-p", String(await freePort())]);
      while (!server.log.includes(": ready: ")) await Bun.sleep(0);
      const code = await server.stop();
      return [code, server.log.includes("stopped: ")];
    });
    expect(await Promise.all(starts)).toEqual(Array(8).fill([0, true]));
  });
});
