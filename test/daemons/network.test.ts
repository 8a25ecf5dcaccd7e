/** What the kernel sends to one listener: whole prefixes, all ports, and a share of a port. */
import { describe, expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { Namespace } from "../kit/namespace.ts";
import { program, root, testWith } from "../kit/require.ts";
import { bin, run, scratch, threadStatus } from "../kit/running.ts";

/** Connects to each `ADDRESS PORT` line, and prints what is said there. */
const VISIT = `
import socket, sys
for line in sys.stdin:
    address, port = line.split()
    with socket.create_connection((address, int(port)), 60) as connection:
        mine = connection.getsockname()
        print(mine[0], mine[1], connection.makefile().readline().strip())
`;

/** What each program behind the socket says: who it is, and both ends as it sees them. */
const SAY = (name: string) => [
  "/bin/sh",
  "-c",
  `echo ${name} $TCPLOCALIP $TCPLOCALPORT $TCPREMOTEIP $TCPREMOTEPORT`,
];

const NEEDS = [root, program("nsenter"), program("ip"), program("python3")] as const;

describe("TPROXY", () => {
  testWith(...NEEDS, program("nft"))(
    "brings every port of a /64 to one transparent listener of an unprivileged server",
    async () => {
      using folder = scratch();
      await using host = await Namespace.local(
        "-6 rule add fwmark 1 lookup 100",
        "-6 route add local ::/0 dev lo table 100",
      );
      await using client = await Namespace.local();
      await host.connect(client, "host", "client");
      await host.ip("-6 addr add 2001:db8:99::1/64 dev to-client nodad");
      await client.ip("-6 addr add 2001:db8:99::2/64 dev to-host nodad");
      await client.ip("-6 route add 2001:db8:1::/64 via 2001:db8:99::1");
      const rules = folder.file("rules");
      writeFileSync(
        rules,
        `table ip6 socketbox { chain everything {
           type filter hook prerouting priority mangle;
           ip6 daddr 2001:db8:1::/64 meta l4proto tcp tproxy to [::]:1 meta mark set 1 accept
         }
         }`,
      );
      expect(await host.run(["nft", "-f", rules])).toEqual({ code: 0, out: "" });

      await using inetd = host.start([bin("socketbox-inetd"), "@every", ...SAY("every")]);
      await using server = host.start([
        bin("socketbox"),
        "-t",
        "-l",
        "::",
        "-p1",
        "-u",
        "nobody",
        "-S",
        "@every",
      ]);
      await Promise.all([inetd.until(/: ready: /), server.until(/: ready: /)]);
      expect(new Set(threadStatus(server.pid, "Uid"))).toEqual(new Set(["65534\t65534\t65534\t65534"]));

      const ends = Array.from({ length: 50 }, () => {
        const group = () => Math.ceil(Math.random() * 0xffff).toString(16);
        return `2001:db8:1:0:${group()}:${group()}:${group()}:${group()} ${Math.ceil(Math.random() * 0xffff)}`;
      });
      const script = folder.file("visit.py");
      writeFileSync(script, VISIT);
      writeFileSync(folder.file("ends"), `${ends.join("\n")}\n`);
      const { out, code } = await client.run(["sh", "-c", `python3 ${script} <${folder.file("ends")}`]);
      expect(code).toBe(0);
      const heard = out.trimEnd().split("\n");
      expect(heard).toHaveLength(ends.length);
      for (const [i, line] of heard.entries()) {
        const [mine, minePort, , local, localPort, remote, remotePort] = line.split(" ");
        const [address, port] = ends[i]!.split(" ");
        expect([canonical(local!), localPort]).toEqual([canonical(address!), port]);
        expect([remote, remotePort]).toEqual([mine, minePort]);
      }
      await server.stop();
      expect(server.log).toContain(`stopped: ${ends.length} accepted, ${ends.length} delivered`);
    },
  );
});

describe("SO_REUSEPORT", () => {
  testWith(...NEEDS)("lets two servers share a port: every connection reaches one of them", async () => {
    using folder = scratch();
    await using host = await Namespace.local("-6 route add local 2001:db8:1::/64 dev lo");
    const start = async (name: string) => {
      const inetd = host.start([bin("socketbox-inetd"), `@${name}`, ...SAY(name)]);
      const server = host.start([bin("socketbox"), "-r", "-p", "80", "-S", `@${name}`]);
      await Promise.all([inetd.until(/: ready: /), server.until(/: ready: /)]);
      return { inetd, server };
    };
    const one = await start("one");
    const two = await start("two");
    await using _one = one.inetd;
    await using _two = two.inetd;
    await using firstServer = one.server;
    await using secondServer = two.server;
    const script = folder.file("visit.py");
    writeFileSync(script, VISIT);
    const ends = Array.from({ length: 100 }, (_, i) => `2001:db8:1::${i + 1} 80`);
    writeFileSync(folder.file("ends"), `${ends.join("\n")}\n`);
    const { out, code } = await host.run(["sh", "-c", `python3 ${script} <${folder.file("ends")}`]);
    expect(code).toBe(0);
    const names = out
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" ")[2]);
    expect(names).toHaveLength(100);
    // Chance decides by a hash of the addresses: that one of them gets none of 100 will not be seen.
    expect(new Set(names)).toEqual(new Set(["one", "two"]));
    await firstServer.stop();
    await secondServer.stop();
    expect(`${firstServer.log}${secondServer.log}`).not.toContain("given up");
  });

  testWith(...NEEDS)(
    "is not set unless asked for: a second server is told that the port is taken",
    async () => {
      await using host = await Namespace.local();
      await using first = host.start([bin("socketbox"), "-p", "80", "-S", "@nobody"]);
      await first.until(/: ready: /);
      const second = await run(host.command(bin("socketbox"), "-r", "-p", "80", "-S", "@nobody"));
      expect(second.code).toBe(3);
      expect(second.out).toContain("bind [::]:80: EADDRINUSE");
    },
  );
});

/** An address in the one form that `URL` gives it. */
function canonical(address: string): string {
  return new URL(`http://[${address}]/`).hostname;
}
