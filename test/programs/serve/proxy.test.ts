/** A listener whose clients come through a proxy: routes, receivers and logs go by the client that its header names. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { parseAddress } from "../../../src/model/address.ts";
import { encodeProxy } from "../../../src/wire/proxy.ts";
import { program, testWith } from "../../kit/require.ts";
import { freePort, Running, ready, scratch, until } from "../../kit/running.ts";
import { Client } from "../relay/kit.ts";

const ENDS = {
  remote: parseAddress("2001:db8::7")!,
  remotePort: 4711,
  local: parseAddress("2001:db8::80")!,
  localPort: 80,
};
const SHOW = 'echo "$TCPREMOTEIP $TCPREMOTEPORT $TCPLOCALIP $TCPLOCALPORT"; cat';
const SEEN = "2001:db8::7 4711 2001:db8::80 80\n";

/** A server on 127.0.0.1 whose routes go by the true local address, and its configuration's file. */
async function server(folder: ReturnType<typeof scratch>, settings: string) {
  const port = await freePort();
  const file = folder.file("server.toml");
  const text = `[[listen]]
address = "127.0.0.1"
port = ${port}
${settings}

[[route]]
local = ["2001:db8::80", "127.0.0.1"]
to = "unix:${folder.file("r")}"
`;
  writeFileSync(file, text);
  return { port, running: await ready("socketbox", ["-f", file]) };
}

const REQUIRE = 'proxy = "require"\nproxy-from = "127.0.0.0/8"\nproxy-timeout = "1h"';

describe("a listener with proxy = require", () => {
  test.each([1, 2] as const)(
    "routes by the ends of a header of version %d, and inetd's program sees them",
    async (version) => {
      using folder = scratch();
      await using inetd = await ready("socketbox-inetd", [folder.file("r"), "/bin/sh", "-c", SHOW]);
      const { port, running } = await server(folder, REQUIRE);
      await using _running = running;
      const header = Buffer.from(encodeProxy(version, ENDS));
      for (const pieces of [[Buffer.concat([header, Buffer.from("payload")])], [...header, ..."payload"]]) {
        using client = new Client(port);
        for (const piece of pieces) {
          client.send(typeof piece === "number" ? String.fromCharCode(piece) : piece);
          if (pieces.length > 1) await Bun.sleep(1);
        }
        client.finish();
        await client.hears(`${SEEN}payload`);
      }
      await inetd.until(/\[2001:db8::7\]:4711 -> \[2001:db8::80\]:80/);
      using elsewhere = new Client(port);
      elsewhere.send(encodeProxy(version, { ...ENDS, local: parseAddress("2001:db8::81")! }));
      await elsewhere.ends();
      await running.until(/connection given up: no-route: \[2001:db8::7\]:4711 -> \[2001:db8::81\]:80/);
      expect(await running.stop()).toBe(0);
    },
  );

  test("drops what has no header, and holds nobody up for one who has half a header", async () => {
    using folder = scratch();
    await using _inetd = await ready("socketbox-inetd", [folder.file("r"), "/bin/sh", "-c", SHOW]);
    const { port, running } = await server(folder, REQUIRE);
    await using _running = running;
    using half = new Client(port);
    half.send("PROXY TCP");
    using none = new Client(port);
    none.send("GET / HTTP/1.1\r\n");
    expect(await none.ends()).toBe("reset");
    using client = new Client(port);
    client.send(encodeProxy(2, ENDS));
    client.finish();
    await client.hears(SEEN);
    expect(half.ending).toBeUndefined();
    await running.until(/connection given up: proxy-header: \[::ffff:127\.0\.0\.1\]/);
  });

  test("drops each that has half a header for longer than it says", async () => {
    using folder = scratch();
    const { port, running } = await server(folder, REQUIRE.replace("1h", "100ms"));
    await using _running = running;
    const half = Array.from({ length: 10 }, () => new Client(port));
    for (const client of half) client.send("PROXY TCP");
    for (const one of half) await one.ends();
    await running.until(/(?:connection given up: proxy-timeout[\s\S]*){10}/);
    expect(await running.stop()).toBe(0);
    expect(running.log).toMatch(/stopped: .*10 proxy-timeout/);
  });

  testWith(program("python3"))(
    "sends the ends along in at most 128 bytes that begin as they always did",
    async () => {
      using folder = scratch();
      const script = `
import array, os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("${folder.file("r")}")
print("ready", flush=True)
for _ in range(2):
    data, ancillary, flags, _ = s.recvmsg(1000, 1000)
    fd = array.array("i", ancillary[0][2])[0]
    print(data.hex(), flags & socket.MSG_CTRUNC, socket.socket(fileno=fd).recv(100), flush=True)`;
      await using receiver = new Running(["python3", "-c", script]);
      await receiver.until(/ready/);
      const { port, running } = await server(folder, 'proxy = "optional"\nproxy-from = "127.0.0.0/8"');
      await using _running = running;
      const header = Buffer.from(encodeProxy(2, ENDS));
      using client = new Client(port);
      client.send(Buffer.concat([header, Buffer.from("mine")]));
      await receiver.until(new RegExp(`^00${header.toString("hex")} 0 b'mine'$`, "m"));
      using plain = new Client(port);
      plain.send("plain");
      await receiver.until(/^00 0 b'plain'$/m);
      expect(1 + header.length).toBeLessThanOrEqual(128);
      expect(await running.stop()).toBe(0);
    },
  );

  test("a relay behind it goes by them, and sends them on", async () => {
    using folder = scratch();
    const to = await freePort();
    let got = "";
    const listener = Bun.listen({
      hostname: "127.0.0.1",
      port: to,
      socket: {
        data(socket, data) {
          got += data.toString();
          socket.end("ok");
        },
      },
    });
    const args = ["-s", folder.file("r"), "-c", "127.0.0.1", "-p", String(to), "-i"];
    await using relay = await ready("socketbox-relay", args);
    const { port, running } = await server(folder, REQUIRE);
    await using _running = running;
    using client = new Client(port);
    client.send(encodeProxy(1, ENDS));
    await client.hears("ok");
    expect(got).toBe("PROXY TCP6 2001:db8::7 2001:db8::80 4711 80\r\n");
    await relay.until(/^\d+ \[2001:db8::7\]:4711 -> \[2001:db8::80\]:80$/m);
    listener.stop(true);
  });

  testWith(program("haproxy"))("understands HAProxy, versions 1 and 2", async () => {
    using folder = scratch();
    await using _inetd = await ready("socketbox-inetd", [folder.file("r"), "/bin/sh", "-c", SHOW]);
    const { port, running } = await server(folder, REQUIRE);
    await using _running = running;
    for (const option of ["send-proxy", "send-proxy-v2"]) {
      const front = await freePort();
      const config = folder.file("haproxy.cfg");
      const times = ["client", "server", "connect"].map((name) => `  timeout ${name} 60s\n`).join("");
      const listen = `listen l\n  bind 127.0.0.1:${front}\n  server s 127.0.0.1:${port} ${option}\n`;
      writeFileSync(config, `defaults\n  mode tcp\n${times}${listen}`);
      await using haproxy = new Running(["haproxy", "-db", "-f", config]);
      let answer = "";
      // It says nothing when it listens.
      while (answer === "") {
        using client = new Client(front, "127.0.0.9");
        client.send("over two");
        client.finish();
        await client.ends();
        answer = client.heard;
        if (haproxy.log.includes("ALERT")) throw new Error(haproxy.log);
      }
      expect(answer).toMatch(new RegExp(`^127.0.0.9 \\d+ 127.0.0.1 ${front}\nover two$`));
    }
  });
});

describe("a listener with proxy = optional", () => {
  test("takes those without a header for what they are", async () => {
    using folder = scratch();
    await using _inetd = await ready("socketbox-inetd", [folder.file("r"), "/bin/sh", "-c", SHOW]);
    const { port, running } = await server(
      folder,
      'proxy = "optional"\nproxy-from = ["127.0.0.1"]\nproxy-timeout = "100ms"',
    );
    await using _running = running;
    using speaks = new Client(port);
    speaks.send("hello");
    speaks.finish();
    expect(await speaks.ends()).toBe("end");
    expect(speaks.heard).toMatch(new RegExp(`^127.0.0.1 \\d+ 127.0.0.1 ${port}\nhello$`));
    using waits = new Client(port);
    await until(
      () => waits.heard !== "",
      () => "nothing came",
    );
    expect(waits.heard).toMatch(new RegExp(`^127.0.0.1 \\d+ 127.0.0.1 ${port}\n$`));
    using untrusted = new Client(port, "127.0.0.9");
    untrusted.send(encodeProxy(1, ENDS));
    untrusted.finish();
    await untrusted.ends();
    expect(untrusted.heard).toContain(`127.0.0.9 `);
    expect(untrusted.heard).toContain("PROXY TCP6");
  });
});
