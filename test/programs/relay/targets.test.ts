/** Several targets, names, NAT64, and where connections come from. */
import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Namespace } from "../../kit/namespace.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ask, bin, freePort, must, ROOT, type Running, ready, scratch, until } from "../../kit/running.ts";
import { Client, ended, endings, fromFile, inherited, named, relayed, target } from "./kit.ts";

const python = program("python3");
const HERE = join(ROOT, "test/programs/relay");

/** Three targets on 127.0.0.1 called a, b and c. */
async function three() {
  const ports = [await freePort(), await freePort(), await freePort()];
  const servers = ["a", "b", "c"].map((name, index) => named(name, ports[index]!));
  return {
    list: ports.map((port) => `127.0.0.1:${port}`).join(","),
    ports,
    servers,
    [Symbol.dispose]: () => {
      for (const server of servers) server[Symbol.dispose]();
    },
  };
}

async function answers(port: number, count: number): Promise<string> {
  let all = "";
  for (let i = 0; i < count; i++) all += await ask(port, "127.0.0.1");
  return all;
}

describe("balance", () => {
  test("round-robin takes turns", async () => {
    using targets = await three();
    await using between = await relayed(["--to", targets.list]);
    expect(await answers(between.port, 7)).toBe("abcabca");
  });

  test("least-connections goes where the fewest are", async () => {
    using targets = await three();
    await using between = await relayed(["--to", targets.list, "--balance", "least-connections"]);
    const clients = [new Client(between.port), new Client(between.port), new Client(between.port)];
    await until(
      () => clients.every(({ heard }) => heard !== ""),
      () => "not all are served",
    );
    expect(clients.map(({ heard }) => heard).sort()).toEqual(["a", "b", "c"]);
    const ofB = clients.find(({ heard }) => heard === "b")!;
    ofB.finish();
    await ended(between.relay, 1);
    expect(await answers(between.port, 4)).toBe("bbbb");
    for (const client of clients) client[Symbol.dispose]();
  });

  test("source keeps an address with its target, and spreads addresses", async () => {
    using targets = await three();
    await using between = await relayed(["--to", targets.list, "--balance", "source"]);
    const heard = new Map<string, Set<string>>();
    for (let round = 0; round < 3; round++) {
      for (let host = 2; host < 14; host++) {
        const address = `127.0.0.${host}`;
        using client = new Client(between.port, address);
        client.finish();
        await client.ends();
        heard.set(address, (heard.get(address) ?? new Set()).add(client.heard));
      }
    }
    expect([...heard.values()].every((names) => names.size === 1)).toBe(true);
    expect(new Set([...heard.values()].flatMap((names) => [...names])).size).toBeGreaterThan(1);
  });
});

describe("a target", () => {
  testWith(root, python)("may be link-local, and the log says on which interface", async () => {
    await using inside = await Namespace.local("-6 addr add fe80::1/64 dev lo");
    await using _target = await target("whoami", "fe80::1%lo,8080", (words) => inside.command(...words));
    const ways = [
      ["-c", "fe80::1", "-I", "lo", "-p", "8080"],
      ["-c", "fe80::1", "-n", "1", "-p", "8080"],
      ["--to", "[fe80::1%lo]:8080"],
    ];
    for (const [index, way] of ways.entries()) {
      const port = 8081 + index;
      await using relay = await listening(inside, "127.0.0.1", port, bin("socketbox-relay"), ...way);
      expect(await askInside(inside, "127.0.0.1", port)).toStartWith("fe80::1");
      expect((await ended(relay, 1))[0]).toStartWith("closed; to [fe80::1%1]:8080; 0 bytes up, ");
    }
  });

  testWith(python)("may be in the abstract namespace", async () => {
    const name = `sb-${process.pid}-target`;
    await using _silent = await target("silent", `@${name}`);
    for (const way of [
      ["-u", `@${name}`],
      ["--to", `unix:@${name}`],
    ]) {
      await using between = await relayed([...way, "--idle-timeout", "50ms"]);
      using _client = new Client(between.port);
      expect(await ended(between.relay, 1)).toEqual([`idle-timeout; to unix:@${name}; 0 bytes up, 0 down`]);
    }
  });
});

describe("passive health", () => {
  test("a target that refuses is passed over at once, tried last for a while, and found again", async () => {
    using targets = await three();
    targets.servers[0]![Symbol.dispose]();
    await using between = await relayed(["--to", targets.list, "--retry", "300ms"]);
    expect(await answers(between.port, 4)).toMatch(/^[bc]{4}$/);
    const down = `[::ffff:127.0.0.1]:${targets.ports[0]}`;
    await between.relay.until(/cannot be reached/);
    expect(between.relay.log.match(/cannot be reached: .*/g)).toEqual([
      `cannot be reached: ${down} ECONNREFUSED`,
    ]);
    expect(new Set(endings(between.relay).map((line) => line.split(";")[0]))).toEqual(new Set(["closed"]));
    using _again = named("a", targets.ports[0]!);
    await Bun.sleep(310);
    expect(await answers(between.port, 3)).toContain("a");
    await between.relay.until(/reached again/);
  });

  test("when all are down each of them is tried, and the log names each", async () => {
    const [one, two] = [await freePort(), await freePort()];
    await using between = await relayed(["--to", `127.0.0.1:${one},127.0.0.1:${two}`]);
    expect(await ask(between.port, "127.0.0.1")).toBe("");
    expect(await ended(between.relay, 1)).toEqual([
      `connect-failed ([::ffff:127.0.0.1]:${one} ECONNREFUSED, [::ffff:127.0.0.1]:${two} ECONNREFUSED); no target; 0 bytes up, 0 down`,
    ]);
  });
});

/** Runs the command inside, with a listener as descriptor 0. */
function listening(
  namespace: Namespace,
  address: string,
  port: number,
  ...command: string[]
): Promise<Running> {
  const running = namespace.start(["python3", join(HERE, "listen.py"), address, String(port), ...command]);
  return running.until(/: ready: /).then(() => running);
}

async function askInside(
  namespace: Namespace,
  address: string,
  port: number,
  source?: string,
): Promise<string> {
  const from = source === undefined ? "" : `, source_address=("${source}", 0)`;
  const script = `
import socket
s = socket.create_connection(("${address}", ${port}), 60${from})
heard = b""
while piece := s.recv(1000): heard += piece
print(heard.decode(), *s.getsockname()[:2])`;
  const { out } = await namespace.run(["python3", "-c", script]);
  return out.trim();
}

describe("names", () => {
  testWith(root, python)("happy eyeballs: a dead address of one family delays by a moment only", async () => {
    using folder = scratch();
    // 2001:db8::1 would be a neighbour, and nobody answers for it.
    await using inside = await Namespace.local();
    await using neighbour = await Namespace.local();
    await inside.connect(neighbour, "inside", "neighbour");
    await inside.ip("addr add 2001:db8::2/64 dev to-neighbour nodad");
    // It would be given up after three seconds otherwise; so it never is, and whoever waits for it waits for ever.
    const tries = "/proc/sys/net/ipv6/neigh/to-neighbour/mcast_solicit";
    await must(inside.command("sh", "-c", `echo 1000000 >${tries}`));
    writeFileSync(folder.file("hosts"), "2001:db8::1 dual.test\n127.0.0.1 dual.test\n");
    await using _target = await target("whoami", 8080, (words) => inside.command(...words));
    const mount = `mount --bind ${folder.file("hosts")} /etc/hosts && exec "$@"`;
    const command = [
      "unshare",
      "-m",
      "sh",
      "-c",
      mount,
      "sh",
      bin("socketbox-relay"),
      ...["--to", "dual.test:8080", "--connect-timeout", "1h"],
    ];
    await using relay = await listening(inside, "127.0.0.1", 8081, ...command);
    expect(await askInside(inside, "127.0.0.1", 8081)).toMatch(/^127\.0\.0\.1 \d+ /);
    await ended(relay, 1);
    expect(endings(relay)[0]).toStartWith("closed; to [::ffff:127.0.0.1]:8080;");
  });

  test("a name without an address is said to have none", async () => {
    await using between = await relayed(["--to", "nowhere.invalid:80"]);
    expect(await ask(between.port, "127.0.0.1")).toBe("");
    expect(await ended(between.relay, 1)).toEqual([
      "connect-failed (nowhere.invalid:80 has no address); no target; 0 bytes up, 0 down",
    ]);
  });
});

describe("NAT64", () => {
  testWith(root, python)("an IPv6 client reaches an IPv4 server, its port kept", async () => {
    await using inside = await Namespace.local("-6 route add local 64:ff9b::/96 dev lo");
    await using _target = await target("whoami", "127.0.0.1,8080", (words) => inside.command(...words));
    const relay = [bin("socketbox-relay"), "-N", "-c", "::ffff:0.0.0.0", "-p", "0"];
    await using _relay = await listening(inside, "64:ff9b::7f00:1", 8080, ...relay);
    expect(await askInside(inside, "64:ff9b::7f00:1", 8080, "::1")).toMatch(/^127\.0\.0\.1 \d+ /);
  });

  testWith(root, python)(
    "a /64 prefix carries 64 bits over; what is not below it has no target",
    async () => {
      await using inside = await Namespace.local(
        "-6 route add local 2001:db8:64::/64 dev lo",
        "-6 route add local 2001:db8:65::/64 dev lo",
      );
      await using _target = await target("whoami", "2001:db8:65::1:2,8080", (words) =>
        inside.command(...words),
      );
      const relay = ["-x", "-P", "2001:db8:64::", "-c", "2001:db8:65::", "-p", "8080"];
      await using below = await listening(inside, "::", 9090, bin("socketbox-relay"), ...relay);
      expect(await askInside(inside, "2001:db8:64::1:2", 9090, "::1")).toMatch(/^::1 \d+ ::1 \d+$/);
      expect(await askInside(inside, "::1", 9090)).toMatch(/^::1 \d+$/);
      await ended(below, 2);
      expect(endings(below)[1]).toBe(
        "no-target (the local address is not below the NAT64 prefix); no target; 0 bytes up, 0 down",
      );
    },
  );

  testWith(root, python)("a Unix target has the last 32 bits behind its path", async () => {
    using folder = scratch();
    await using inside = await Namespace.local("-6 route add local 64:ff9b::/96 dev lo");
    await using _target = await target("silent", `${folder.file("s")}-c0000201`);
    const relay = [bin("socketbox-relay"), "-N", "-u", folder.file("s")];
    await using running = await listening(inside, "::", 9091, ...relay, "--idle-timeout", "100ms");
    await askInside(inside, "64:ff9b::c000:201", 9091);
    expect(await ended(running, 1)).toEqual([
      `idle-timeout; to unix:${folder.file("s")}-c0000201; 0 bytes up, 0 down`,
    ]);
  });
});

describe("a source", () => {
  testWith(python)("that is given is what the target sees", async () => {
    await using between = await relayed(["--source", "127.0.0.77"]);
    await using _target = await target("whoami", between.target);
    expect(await ask(between.port, "127.0.0.1")).toMatch(/^127\.0\.0\.77 \d+$/);
  });

  testWith(python)("of the other family is refused for what it is", async () => {
    await using between = await relayed(["--source", "::1"]);
    expect(await ask(between.port, "127.0.0.1")).toBe("");
    expect((await ended(between.relay, 1))[0]).toContain("EAFNOSUPPORT");
  });

  const families = [
    { family: "IPv4", ip: "", table: "ip", net: "10", length: 24, all: "default", log: "::ffff:10.2.0.3" },
    { family: "IPv6", ip: "-6 ", table: "ip6", net: "fd00", length: 64, all: "::/0", log: "fd00:2::3" },
  ];
  for (const { family, ip, table, net, length, all, log } of families)
    testWith(
      root,
      python,
      program("nft"),
    )(`that is the client's own is what the target sees, as an unprivileged user: ${family}`, async () => {
      const six = family === "IPv6";
      const address = (link: number, host: number) =>
        six ? `${net}:${link}::${host}` : `${net}.${link}.0.${host}`;
      const add = (link: number, host: number) =>
        `addr add ${address(link, host)}/${length}${six ? " nodad" : ""} dev`;
      await using client = await Namespace.local();
      await using middle = await Namespace.local();
      await using server = await Namespace.local();
      await client.connect(middle, "client", "middle");
      await middle.connect(server, "middle", "server");
      await client.ip(`${add(1, 1)} to-middle`);
      await client.ip(`${ip}route add default via ${address(1, 2)}`);
      await middle.ip(`${add(1, 2)} to-client`);
      await middle.ip(`${add(2, 2)} to-server`);
      await server.ip(`${add(2, 3)} to-middle`);
      await server.ip(`${ip}route add default via ${address(2, 2)}`);
      // What comes back from the server is for the relay, although it is addressed to the client.
      await middle.ip(`${ip}rule add fwmark 1 lookup 100`);
      await middle.ip(`${ip}route add local ${all} dev lo table 100`);
      const rules = `table ${table} t { chain c { type filter hook prerouting priority mangle; socket transparent 1 meta mark set 1; }; }`;
      expect(await middle.run(["nft", rules])).toEqual({ code: 0, out: "" });
      await using _target = await target("whoami", `${address(2, 3)},8080`, (words) =>
        server.command(...words),
      );
      const to = six ? `[${address(2, 3)}]:8080` : `${address(2, 3)}:8080`;
      const relay = [bin("socketbox-relay"), "--to", to, "--source", "client", "--user", "65534"];
      await using running = await listening(middle, address(1, 2), 8081, ...relay);
      const own = address(1, 1).replaceAll(".", "\\.");
      expect(await askInside(client, address(1, 2), 8081)).toMatch(new RegExp(`^${own} \\d+ ${own} \\d+$`));
      expect(running.log).toContain(`closed; to [${log}]:8080`);
    });
});

describe("a network namespace", () => {
  testWith(root, python)(
    "is where the target is reached, and nothing else, after privileges are gone",
    async () => {
      await using inside = await Namespace.local();
      const port = await freePort();
      await using _target = await target("whoami", 8080, (words) => inside.command(...words));
      const args = ["-c", "::ffff:127.0.0.1", "-p", "8080", "--netns", inside.path, "--user", "65534"];
      await using relay = await inherited(port, args);
      for (let i = 0; i < 3; i++) expect(await ask(port, "127.0.0.1")).toMatch(/^127\.0\.0\.1 \d+$/);
      expect(await relay.stop()).toBe(0);
    },
  );
});

describe("connections", () => {
  testWith(python)("are received on a Unix socket that is bound, and goes with the relay", async () => {
    using folder = scratch();
    const [port, to] = [await freePort(), await freePort()];
    using _target = named("hello", to);
    const relay = await ready("socketbox-relay", [
      "-s",
      folder.file("r"),
      "-c",
      "::ffff:127.0.0.1",
      "-p",
      String(to),
    ]);
    await using _relay = relay;
    await using server = await ready("socketbox", [
      "-l",
      "127.0.0.1",
      "-p",
      String(port),
      "-S",
      folder.file("r"),
    ]);
    expect(await answers(port, 3)).toBe("hellohellohello");
    expect(await relay.stop()).toBe(0);
    expect(existsSync(folder.file("r"))).toBe(false);
    expect(await server.stop()).toBe(0);
  });

  test("come to several relays of one process", async () => {
    using folder = scratch();
    using targets = await three();
    const port = await freePort();
    const text = `
[[relay]]
name = "first"
from = "fd:3"
to = "127.0.0.1:${targets.ports[0]}"

[[relay]]
from = "unix:${folder.file("r")}"
to = ["127.0.0.1:${targets.ports[1]}"]
`;
    await using relay = await fromFile(folder.file("relay.toml"), text, port);
    const other = await freePort();
    await using _server = await ready("socketbox", [
      "-l",
      "127.0.0.1",
      "-p",
      String(other),
      "-S",
      folder.file("r"),
    ]);
    expect(await ask(port, "127.0.0.1")).toBe("a");
    expect(await ask(other, "127.0.0.1")).toBe("b");
    expect(await relay.stop()).toBe(0);
    expect(relay.log).toContain("first: 1 taken, 0 running, 1 closed");
    expect(relay.log).toContain(`unix:${folder.file("r")}: 1 taken, 0 running, 1 closed`);
  });
});
