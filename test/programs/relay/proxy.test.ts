/** The PROXY protocol, sent to and received from HAProxy and nginx, and whatever else clients send. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { listen } from "../../../src/io/listener.ts";
import { SOCK } from "../../../src/io/socket.ts";
import { parseAddress } from "../../../src/model/address.ts";
import { encodeProxy } from "../../../src/wire/proxy.ts";
import { program, testWith } from "../../kit/require.ts";
import { bin, freePort, Running, scratch, until } from "../../kit/running.ts";
import { boundUnix } from "../../kit/sockets.ts";
import { Client, ended, fromFile, inherited, relayed } from "./kit.ts";

/** HTTP servers that want a PROXY header, and log the client that it names. */
interface Server {
  readonly name: string;
  readonly command: string;
  /** Starts it on 127.0.0.1:`port` and on `socket`. */
  start(folder: string, port: number, socket: string): Promise<Running>;
  log(running: Running, folder: string): string;
}

const SERVERS: Server[] = [
  {
    name: "HAProxy",
    command: "haproxy",
    start: async (folder, port, socket) => {
      const config = `${folder}/haproxy.cfg`;
      writeFileSync(
        config,
        `global
  log stdout format raw local0
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 60s
frontend f
  bind 127.0.0.1:${port} accept-proxy
  bind unix@${socket} accept-proxy
  log global
  log-format "client=%[src]:%[src_port] to=%[dst]:%[dst_port] id=%[fc_pp_unique_id]"
  http-request return status 200 content-type text/plain string welcome
`,
      );
      const running = new Running(["haproxy", "-db", "-f", config]);
      await listens(port, running);
      return running;
    },
    log: (running) => running.log,
  },
  {
    name: "nginx",
    command: "nginx",
    start: async (folder, port, socket) => {
      const config = `${folder}/nginx.conf`;
      mkdirSync(`${folder}/tmp`);
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
      writeFileSync(
        config,
        `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
events {}
http {
  ${temporary.map((name) => `${name}_temp_path ${folder}/tmp/${name};`).join(" ")}
  log_format f "client=$proxy_protocol_addr:$proxy_protocol_port to=$proxy_protocol_server_addr:$proxy_protocol_server_port";
  access_log ${folder}/access.log f;
  server {
    listen 127.0.0.1:${port} proxy_protocol;
    listen unix:${socket} proxy_protocol;
    location / { default_type text/plain; return 200 welcome; }
  }
}
`,
      );
      const running = new Running(["nginx", "-p", folder, "-c", config]);
      await listens(port, running);
      return running;
    },
    log: (_, folder) => readFileSync(`${folder}/access.log`, "utf8"),
  },
];

async function listens(port: number, running: Running): Promise<void> {
  const line = `:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  await until(
    () => readFileSync("/proc/net/tcp", "utf8").includes(line),
    () => `it does not listen:\n${running.log}`,
  );
}

/** One HTTP request from this address; the answer's body, and the port that it came from. */
function get(port: number, localAddress: string): Promise<{ body: string; from: number }> {
  return new Promise((resolve, reject) => {
    let answer = "";
    let from = 0;
    const socket = connect({ host: "127.0.0.1", port, localAddress }, () => {
      from = socket.localPort!;
      socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    });
    socket.on("data", (data) => {
      answer += data.toString();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve({ body: answer.split("\r\n\r\n")[1] ?? answer, from }));
  });
}

describe.each(SERVERS)("$name", (server) => {
  describe.each(["v1", "v2"])("behind a PROXY header %s", (version) => {
    testWith(program(server.command))("logs the true client, over TCP and over a Unix socket", async () => {
      using folder = scratch();
      const port = await freePort();
      await using running = await server.start(folder.path, port, folder.file("s"));
      for (const to of [`127.0.0.1:${port}`, `unix:${folder.file("s")}`]) {
        await using between = await relayed(["--to", to, "--send-proxy", version]);
        const { body, from } = await get(between.port, "127.0.0.9");
        expect(body).toBe("welcome");
        const expected = `client=127.0.0.9:${from} to=127.0.0.1:${between.port}`;
        await until(
          () => server.log(running, folder.path).includes(expected),
          () => `no ${expected} in:\n${server.log(running, folder.path)}`,
        );
      }
      if (server.name === "HAProxy" && version === "v2")
        expect(running.log.match(/id=[0-9a-f]{12}-0$/gm)).toHaveLength(2);
    });
  });
});

/** A target that keeps what it gets, and answers with `ok` and ends when the client has finished. */
async function recorder(): Promise<Disposable & { readonly port: number; got: Buffer }> {
  const port = await freePort();
  const recorded = { port, got: Buffer.alloc(0), [Symbol.dispose]: () => listener.stop(true) };
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      data(_, data) {
        recorded.got = Buffer.concat([recorded.got, data]);
      },
      end(socket) {
        socket.write("ok");
        socket.end();
      },
    },
  });
  return recorded;
}

const TRUE_CLIENT = {
  remote: parseAddress("2001:db8::7")!,
  remotePort: 4711,
  local: parseAddress("2001:db8::80")!,
  localPort: 80,
};
const SEEN = "PROXY TCP6 2001:db8::7 2001:db8::80 4711 80\r\n";

/** A relay that takes headers as `settings` say, and sends on what it understood as version 1. */
async function receiving(folder: string, to: number, settings: string) {
  const port = await freePort();
  const text = `[[relay]]\nname = "in"\nfrom = "fd:3"\nto = "127.0.0.1:${to}"\nsend-proxy = "v1"\n${settings}\n`;
  const relay = await fromFile(`${folder}/relay.toml`, text, port);
  return { relay, port, [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose]() };
}

const REQUIRE = 'proxy = "require"\nproxy-from = "127.0.0.0/8"\nproxy-timeout = "1h"';
const IN_TIME = REQUIRE.replace("1h", "200ms");
const OPTIONAL = 'proxy = "optional"\nproxy-from = "127.0.0.0/8"\nproxy-timeout = "150ms"';

describe("a received header", () => {
  test.each([1, 2] as const)(
    "of version %d is read to its last byte and no further, however it comes",
    async (version) => {
      using folder = scratch();
      using target = await recorder();
      await using between = await receiving(folder.path, target.port, REQUIRE);
      const header = Buffer.from(encodeProxy(version, TRUE_CLIENT));
      // In one piece with what follows; byte by byte; and nothing behind it.
      for (const pieces of [
        [Buffer.concat([header, Buffer.from("payload")])],
        [...header, ..."payload"],
        [header],
      ]) {
        target.got = Buffer.alloc(0);
        using client = new Client(between.port);
        for (const piece of pieces) {
          client.send(typeof piece === "number" ? String.fromCharCode(piece) : piece);
          if (pieces.length > 1) await Bun.sleep(1);
        }
        client.finish();
        await client.hears("ok");
        const rest = pieces.length === 1 && pieces[0] === header ? "" : "payload";
        expect(target.got.toString()).toBe(SEEN + rest);
      }
      const logged = between.relay.log.match(/^\d+ \[2001:db8::7\]:4711 -> \[2001:db8::80\]:80$/gm);
      expect(logged).toHaveLength(3);
    },
  );

  test("that is required and missing, wrong, cut off or late ends the connection, and the log says which", async () => {
    using folder = scratch();
    using target = await recorder();
    type Case = readonly [text: string, finish: boolean, expected: string];
    const patient: Case[] = [
      ["GET / HTTP/1.1\r\n", false, "proxy-header (there is none)"],
      [
        "PROXY TCP4 nonsense\r\n",
        false,
        "proxy-header (version 1: not TCP4 or TCP6 with two addresses and two ports)",
      ],
      ["PROXY TCP4 192.0.", true, "proxy-header (the connection ended within it)"],
      ["", true, "proxy-header (the connection ended before it)"],
    ];
    const hasty: Case[] = [
      ["PROXY TCP4 192.0.", false, "proxy-timeout"],
      ["", false, "proxy-timeout"],
    ];
    for (const [settings, cases] of [
      [REQUIRE, patient],
      [IN_TIME, hasty],
    ] as const) {
      await using between = await receiving(folder.path, target.port, settings);
      for (const [index, [text, finish, expected]] of cases.entries()) {
        using client = new Client(between.port);
        if (text) client.send(text);
        if (finish) client.finish();
        await client.ends();
        expect((await ended(between.relay, index + 1))[index]).toBe(
          `${expected}; no target; 0 bytes up, 0 down`,
        );
      }
    }
    expect(target.got).toHaveLength(0);
  });

  test("half of which comes holds nobody else up", async () => {
    using folder = scratch();
    using target = await recorder();
    await using between = await receiving(folder.path, target.port, REQUIRE);
    const waiting = Array.from({ length: 20 }, () => new Client(between.port));
    for (const client of waiting) client.send("PROXY TC");
    using client = new Client(between.port);
    client.send(`PROXY TCP6 2001:db8::7 2001:db8::80 4711 80\r\n`);
    client.finish();
    await client.hears("ok");
    expect(waiting.every(({ ending }) => ending === undefined)).toBe(true);
    for (const one of waiting) one[Symbol.dispose]();
  });

  test("that is optional may be missing, from one who speaks and from one who waits", async () => {
    using folder = scratch();
    using target = await recorder();
    await using between = await receiving(folder.path, target.port, OPTIONAL);
    using speaks = new Client(between.port);
    speaks.send("hello");
    speaks.finish();
    await speaks.hears("ok");
    expect(target.got.toString()).toMatch(/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\nhello$/);
    target.got = Buffer.alloc(0);
    using waits = new Client(between.port);
    await until(
      () => target.got.length > 0,
      () => "nothing came",
    );
    expect(target.got.toString()).toMatch(/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/);
    waits.finish();
    await waits.hears("ok");
  });

  test("from somebody who may not send one is data, or the end where it is required", async () => {
    using folder = scratch();
    using target = await recorder();
    const others = '"192.0.2.0/24"';
    {
      await using optional = await receiving(
        folder.path,
        target.port,
        `proxy = "optional"\nproxy-from = ${others}`,
      );
      using client = new Client(optional.port);
      client.send(SEEN);
      client.finish();
      await client.hears("ok");
      expect(target.got.toString()).toMatch(
        new RegExp(`^PROXY TCP4 127.0.0.1 127.0.0.1 \\d+ \\d+\r\n${SEEN}$`),
      );
    }
    await using required = await receiving(
      folder.path,
      target.port,
      `proxy = "require"\nproxy-from = ${others}`,
    );
    using client = new Client(required.port);
    client.send(SEEN);
    await client.ends();
    expect(await ended(required.relay, 1)).toEqual([
      "proxy-header (the sender is not in proxy-from); no target; 0 bytes up, 0 down",
    ]);
  });

  testWith(program("haproxy"))("from HAProxy, versions 1 and 2, names the client of HAProxy", async () => {
    using folder = scratch();
    using target = await recorder();
    await using between = await receiving(folder.path, target.port, REQUIRE);
    for (const option of ["send-proxy", "send-proxy-v2"]) {
      target.got = Buffer.alloc(0);
      const port = await freePort();
      const config = folder.file("haproxy.cfg");
      writeFileSync(
        config,
        `defaults
  mode tcp
  timeout client 60s
  timeout server 60s
  timeout connect 60s
listen l
  bind 127.0.0.1:${port}
  server s 127.0.0.1:${between.port} ${option}
`,
      );
      await using haproxy = new Running(["haproxy", "-db", "-f", config]);
      await listens(port, haproxy);
      using client = new Client(port, "127.0.0.9");
      client.send("through two");
      client.finish();
      await client.hears("ok");
      expect(target.got.toString()).toMatch(
        new RegExp(`^PROXY TCP4 127.0.0.9 127.0.0.1 \\d+ ${port}\r\nthrough two$`),
      );
    }
  });

  test("travels on whole through a second relay: addresses, unique id, namespace", async () => {
    using folder = scratch();
    using target = await recorder();
    const port = await freePort();
    const text = `[[relay]]\nfrom = "fd:3"\nto = "127.0.0.1:${target.port}"\nsend-proxy = "v2"\n${REQUIRE}\n`;
    await using _relay = await fromFile(folder.file("relay.toml"), text, port);
    using client = new Client(port);
    const header = encodeProxy(2, TRUE_CLIENT, { uniqueId: Buffer.from("my-id"), netns: "blue" });
    client.send(header);
    client.finish();
    await client.hears("ok");
    expect(target.got).toEqual(Buffer.from(header));
  });

  test("is sent by the letter of the original, -i", async () => {
    using target = await recorder();
    const port = await freePort();
    await using _relay = await inherited(port, ["-i", "-c", "::ffff:127.0.0.1", "-p", String(target.port)]);
    using client = new Client(port, "127.0.0.9");
    client.finish();
    await client.hears("ok");
    expect(target.got.toString()).toMatch(new RegExp(`^PROXY TCP4 127.0.0.9 127.0.0.1 \\d+ ${port}\r\n$`));
  });

  test("half of which comes where it is optional is no connection without one, but too late", async () => {
    using folder = scratch();
    using target = await recorder();
    await using between = await receiving(folder.path, target.port, OPTIONAL);
    using client = new Client(between.port);
    client.send("PROXY TCP4 192.0.");
    await client.ends();
    expect(await ended(between.relay, 1)).toEqual(["proxy-timeout; no target; 0 bytes up, 0 down"]);
    expect(target.got).toHaveLength(0);
  });
});

describe("a header that is sent", () => {
  test("has version 2's very bytes, with a unique id and the namespace of the clients", async () => {
    using folder = scratch();
    using target = await recorder();
    const port = await freePort();
    const text = `[[relay]]\nfrom = "fd:3"\nto = "127.0.0.1:${target.port}"\nsend-proxy = "v2"\nclient-netns = "blue"\n`;
    await using _relay = await fromFile(folder.file("relay.toml"), text, port);
    let from = 0;
    for (let number = 0; number < 2; number++) {
      target.got = Buffer.alloc(0);
      const socket = connect({ host: "127.0.0.1", port, localAddress: "127.0.0.9" }, () => {
        from = socket.localPort!;
        socket.end("hello");
      });
      await until(
        () => target.got.includes("hello"),
        () => `got ${target.got.toString("hex")}`,
      );
      socket.destroy();
      const hex = (value: number) => value.toString(16).padStart(4, "0");
      // Signature; version 2, PROXY; TCP over IPv4; length; source, destination, their ports; then the records.
      const fixed = `0d0a0d0a000d0a515549540a2111${hex(12 + 3 + 14 + 3 + 4)}`;
      const ends = `7f0000097f000001${hex(from)}${hex(port)}`;
      const before = target.got.subarray(0, 28).toString("hex");
      expect(before).toBe(fixed + ends);
      const records = target.got.subarray(28).toString("latin1");
      expect(records).toMatch(new RegExp(`^\\x05\\0\\x0e[0-9a-f]{12}-${number}\\x30\\0\\x04bluehello$`));
    }
  });

  test.each([
    ["v1", Buffer.from("PROXY UNKNOWN\r\n")],
    ["v2", Buffer.from("0d0a0d0a000d0a515549540a21000011", "hex")],
  ])("says of a client at a Unix socket that its ends are unknown (%s)", async (version, expected) => {
    using folder = scratch();
    using target = await recorder();
    using listener = boundUnix(folder.file("s"), SOCK.stream);
    listen(listener, 16);
    const args = ["-l", "3", "--to", `127.0.0.1:${target.port}`, "--send-proxy", version];
    await using relay = new Running([bin("socketbox-relay"), ...args], { stdio: [listener.number] });
    await relay.until(/: ready: /);
    const client = connect({ path: folder.file("s") }, () => void client.end("hello"));
    await until(
      () => target.got.includes("hello"),
      () => `got ${target.got.toString("hex")}`,
    );
    client.destroy();
    expect(target.got.subarray(0, expected.length)).toEqual(expected);
  });
});
