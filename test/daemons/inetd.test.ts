/** Real programs behind one socket: each believes that inetd started it, and sees its own client. */
import { describe, expect } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Namespace } from "../kit/namespace.ts";
import { program, root, testWith } from "../kit/require.ts";
import { ask, bin, freePort, must, ready, scratch } from "../kit/running.ts";

const CLIENT = "2001:db8:99::1";
const HERE = "2001:db8:1::a";
const THERE = "2001:db8:1::b";

type Scratch = ReturnType<typeof scratch>;

/** Host keys, one key for the client, and a configuration that says which sshd has answered. */
async function sshdConfiguration(folder: Scratch, name: string): Promise<string> {
  const hostKey = folder.file(`host-${name}`);
  await must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", hostKey]);
  const file = folder.file(`sshd-${name}`);
  const settings = [
    `HostKey ${hostKey}`,
    `AuthorizedKeysFile ${folder.file("client.pub")}`,
    "StrictModes no",
    "PermitRootLogin yes",
    "PasswordAuthentication no",
    "UsePAM no",
    "LogLevel VERBOSE",
    `SetEnv SSHD_NAME=${name}`,
  ];
  writeFileSync(file, `${settings.join("\n")}\n`);
  return file;
}

async function clientKey(folder: Scratch): Promise<void> {
  await must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder.file("client")]);
  mkdirSync("/run/sshd", { recursive: true }); // where sshd wants to be chrooted to
}

/** A command over ssh, as a client with that key. */
function ssh(folder: Scratch, address: string, port: number, command: string): string[] {
  const options = [
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
  ];
  return [
    "ssh",
    "-F",
    "none",
    ...options.flatMap((option) => ["-o", option]),
    ...["-i", folder.file("client"), "-p", String(port)],
    `root@${address}`,
    command,
  ];
}

function sshd(configuration: string): string[] {
  return ["/usr/sbin/sshd", "-i", "-e", "-f", configuration];
}

describe("two addresses of one /64 on one listening socket", () => {
  testWith(
    root,
    program("sshd"),
    program("ssh"),
    program("nsenter"),
  )("reach two sshd, one of them in a namespace without network, and both know the client", async () => {
    using folder = scratch();
    await clientKey(folder);
    await using host = await Namespace.local(
      "-6 route add local 2001:db8:1::/64 dev lo",
      `-6 addr add ${CLIENT}/128 dev lo`,
    );
    await using nowhere = await Namespace.isolated();
    const inetd = async (namespace: Namespace, name: string) => {
      const command = sshd(await sshdConfiguration(folder, name));
      return namespace.start([bin("socketbox-inetd"), folder.file(name), ...command]);
    };
    await using here = await inetd(host, "here");
    await using there = await inetd(nowhere, "there");
    await Promise.all([here.until(/: ready: /), there.until(/: ready: /)]);
    const configuration = folder.file("socketbox.toml");
    writeFileSync(
      configuration,
      `[[listen]]
port = 22
[[route]]
local = "${HERE}"
to = "unix:${folder.file("here")}"
[[route]]
local = "${THERE}"
to = "unix:${folder.file("there")}"
`,
    );
    await using server = host.start([bin("socketbox"), "-f", configuration]);
    await server.until(/: ready: /);

    const say = 'echo "$SSHD_NAME, $SSH_CONNECTION"; exit 7';
    for (const [name, address, inetd] of [["here", HERE, here] as const, ["there", THERE, there] as const]) {
      const { code, out } = await host.run(["env", ...ssh(folder, address, 22, say)]);
      expect(code).toBe(7);
      expect(out).toMatch(new RegExp(`^${name}, ${CLIENT} \\d+ ${address} 22\n$`));
      await inetd.until(new RegExp(`Connection from ${CLIENT} port \\d+ on ${address} port 22`));
      await inetd.until(/Accepted publickey for root from 2001:db8:99::1/);
      await inetd.until(/end \d+: exited \d+ after/);
    }
    // One that is nobody's is refused, aloud.
    const { code } = await host.run(["env", ...ssh(folder, "2001:db8:1::c", 22, say)]);
    expect(code).toBe(255);
    await server.until(/connection given up: no-route: \[2001:db8:99::1\]:\d+ -> \[2001:db8:1::c\]:22/);
    expect(await server.stop()).toBe(0);
    expect(server.log).toMatch(/stopped: 3 accepted, 2 delivered, 1 no-route/);
  });
});

interface Service {
  readonly name: string;
  readonly needs: string;
  command(folder: Scratch): Promise<string[]>;
  converse(port: number, folder: Scratch): Promise<void>;
  /** In the program's own log, or among what it says on its standard error. */
  readonly knows: RegExp;
  readonly log?: string;
}

const SERVICES: readonly Service[] = [
  {
    name: "sshd carries 300,000 bytes both ways unchanged, and a terminal",
    needs: "sshd",
    command: async (folder) => {
      await clientKey(folder);
      return sshd(await sshdConfiguration(folder, "one"));
    },
    converse: async (port, folder) => {
      const bytes = crypto.getRandomValues(new Uint8Array(65536));
      const data = Buffer.concat(Array.from({ length: 5 }, () => bytes)).subarray(0, 300_000);
      const command = ssh(folder, "127.0.0.1", port, "cat");
      const echoed = Bun.spawn(command, { stdin: data, stdout: "pipe", stderr: "inherit" });
      expect(Buffer.from(await new Response(echoed.stdout).arrayBuffer()).equals(data)).toBe(true);
      const [name, ...rest] = ssh(folder, "127.0.0.1", port, "tty");
      expect(await must([name!, "-tt", ...rest])).toMatch(/^\/dev\/pts\/\d+/);
    },
    knows: /Connection from 127\.0\.0\.1 port \d+ on 127\.0\.0\.1/,
  },
  {
    name: "dropbear tells a command where its client is",
    needs: "dropbear",
    command: async (folder) => {
      await clientKey(folder);
      const home = folder.file("home");
      mkdirSync(`${home}/.ssh`, { recursive: true, mode: 0o700 });
      writeFileSync(`${home}/.ssh/authorized_keys`, readFileSync(folder.file("client.pub")), { mode: 0o600 });
      await must(["dropbearkey", "-t", "ed25519", "-f", folder.file("key")]);
      // It reads ~/.ssh of the user's entry in /etc/passwd: a mount namespace gives root another home.
      const script = `mount --bind ${home} /root && exec dropbear -i -s -r ${folder.file("key")}`;
      return ["/usr/bin/unshare", "-m", "/bin/sh", "-c", script];
    },
    converse: async (port, folder) => {
      const said = await must(ssh(folder, "127.0.0.1", port, "echo $SSH_CONNECTION"));
      expect(said).toMatch(
        new RegExp(`^(::ffff:)?127\\.0\\.0\\.1 \\d+ (::ffff:)?127\\.0\\.0\\.1 ${port}\n$`),
      );
    },
    knows: /end \d+: exited 0 after/,
  },
  {
    name: "busybox httpd serves a file and a CGI program that knows its client",
    needs: "busybox",
    command: async (folder) => {
      mkdirSync(folder.file("cgi-bin"));
      writeFileSync(folder.file("index.html"), "a page\n");
      const script = folder.file("cgi-bin/who");
      writeFileSync(script, '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n$REMOTE_ADDR\\n"\n');
      chmodSync(script, 0o755);
      return ["/usr/bin/busybox", "httpd", "-i", "-vv", "-h", folder.path];
    },
    converse: async (port) => {
      expect(await ask(port, "127.0.0.1", "GET /index.html HTTP/1.0\r\n\r\n")).toMatch(
        / 200 OK\r\n[\s\S]*\r\n\r\na page\n$/,
      );
      expect(await ask(port, "127.0.0.1", "GET /cgi-bin/who HTTP/1.0\r\n\r\n")).toMatch(/127\.0\.0\.1\]?\n$/);
    },
    knows: /127\.0\.0\.1\]?:\d+: response:200/,
  },
  {
    name: "exim takes a message and notes whom it came from",
    needs: "exim4",
    command: async (folder) => {
      chmodSync(folder.path, 0o777); // it becomes its own user
      const configuration = folder.file("exim.conf");
      const settings = [
        `spool_directory = ${folder.path}`,
        `log_file_path = ${folder.path}/%slog`,
        "primary_hostname = here.example",
        "log_selector = +smtp_connection +incoming_port",
        "acl_smtp_rcpt = accept",
        "acl_smtp_data = accept",
        "host_lookup =",
        "rfc1413_query_timeout = 0s",
        "queue_only = true",
        "keep_environment =",
      ];
      const routing = "begin routers\nall:\n driver = accept\n transport = none";
      const transports = "begin transports\nnone:\n driver = appendfile\n file = /dev/null";
      writeFileSync(configuration, `${settings.join("\n")}\n${routing}\n${transports}\n`);
      return ["/usr/sbin/exim4", "-C", configuration, "-bs"];
    },
    converse: async (port) => {
      const said = await mail(port, [
        "EHLO client.example",
        "MAIL FROM:<a@client.example>",
        "RCPT TO:<b@here.example>",
        "DATA",
        "Subject: one\r\n\r\ntext\r\n.",
        "QUIT",
      ]);
      expect(said).toMatch(/250-here\.example Hello client\.example \[127\.0\.0\.1\]/);
      expect(said).toMatch(/250 OK id=/);
      expect(said).toMatch(/221 here\.example closing connection/);
    },
    knows: /<= a@client\.example H=.*\[127\.0\.0\.1\]/,
    log: "mainlog",
  },
];

/** SMTP without pipelining: a step goes out whenever the server has answered the last one. Returns what it said. */
function mail(port: number, steps: readonly string[]): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const rest = [...steps];
  let said = "";
  Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (socket, data) => {
        said += data.toString();
        if (/^\d{3} [^\n]*\r\n$/m.test(said.slice(said.lastIndexOf("\n", said.length - 2) + 1)))
          socket.write(`${rest.shift()}\r\n`);
      },
      close: () => resolve(said),
      error: (_, error) => reject(error),
    },
  }).catch(reject);
  return promise;
}

describe("behind socketbox-inetd", () => {
  for (const { name, needs, command, converse, knows, log } of SERVICES) {
    testWith(
      root,
      program(needs),
      program("ssh"),
    )(name, async () => {
      using folder = scratch();
      const port = await freePort();
      const started = await command(folder);
      await using inetd = await ready("socketbox-inetd", [folder.file("socket"), ...started]);
      await using server = await ready("socketbox", [
        "-l",
        "127.0.0.1",
        `-p${port}`,
        "-S",
        folder.file("socket"),
      ]);
      await converse(port, folder);
      if (log === undefined) await inetd.until(knows);
      else expect(readFileSync(folder.file(log), "utf8")).toMatch(knows);
      await server.stop();
      expect(server.log).not.toContain("given up");
      expect(await inetd.stop()).toBe(0);
      expect(existsSync(folder.file("socket"))).toBe(false);
    });
  }
});
