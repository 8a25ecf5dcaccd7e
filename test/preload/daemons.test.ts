/**
 * Real daemons under the library, each with its own configuration: they believe that they listen on an
 * ordinary port. Connections come through a sender, 200 of them, 20 at a time, over IPv4 and IPv6.
 */
import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  ask,
  askOften,
  compile,
  mapOf,
  noCompiler,
  Running,
  scratchFolder,
  startSender,
  under,
  until,
} from "./harness.ts";

interface Daemon {
  readonly name: string;
  readonly binary: string;
  /** Files it needs, and the command that runs it in the foreground. */
  readonly prepare: (folder: string) => string[];
  /** What a client sends, each character a byte. */
  readonly question: string;
  readonly answer: RegExp;
  /** The client hangs up when the answer contains this; without it, the daemon does. */
  readonly enough?: string;
  /** How the daemon shows that it knows the client, when its answer does not tell. */
  readonly log?: { readonly file: string; readonly pattern: RegExp };
}

const http = "GET / HTTP/1.0\r\n\r\n";

function write(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function nginx(listen: string, more = ""): Daemon["prepare"] {
  return (folder) => [
    "nginx",
    "-p",
    folder,
    "-e",
    "error.log",
    "-c",
    write(
      folder,
      "nginx.conf",
      `daemon off; pid nginx.pid; worker_processes 4; events { worker_connections 256; } ${more}
       http { access_log off; server { ${listen}
       location / { return 200 "to $server_addr from $remote_addr.\\n"; } } }`,
    ),
  ];
}

const python = (...lines: string[]): Daemon["prepare"] => {
  return (folder) => ["python3", write(folder, "program.py", lines.join("\n"))];
};

const daemons: Daemon[] = [
  {
    name: "nginx, 4 workers, IPv4 and IPv6 wildcard on one port",
    binary: "nginx",
    prepare: nginx("listen 80; listen [::]:80 ipv6only=on;"),
    question: http,
    answer: /to (127\.0\.0\.1 from 127\.0\.0\.1|::1 from ::1)\.\n/,
  },
  {
    name: "nginx, a listener for each of 4 workers (reuseport)",
    binary: "nginx",
    prepare: nginx("listen 80 reuseport so_keepalive=on deferred fastopen=16;"),
    question: http,
    answer: /to [0-9.]+ from [0-9.]+\.\n/,
  },
  {
    name: "haproxy, 2 threads, a shard for each",
    binary: "haproxy",
    prepare: (folder) => [
      "haproxy",
      "-db",
      "-f",
      write(
        folder,
        "haproxy.cfg",
        `global\n nbthread 2
defaults\n mode http\n timeout client 9s\n timeout server 9s\n timeout connect 9s
frontend f\n bind :::80 v6only shards 2
 http-request return status 200 content-type text/plain lf-string "from %[src]."\n`,
      ),
    ],
    question: http,
    answer: /from (127\.0\.0\.1|::ffff:127\.0\.0\.1|::1)\./,
  },
  {
    name: "lighttpd",
    binary: "lighttpd",
    prepare: (folder) => [
      "lighttpd",
      "-D",
      "-f",
      write(
        folder,
        "lighttpd.conf",
        `server.document-root = "${folder}"\nserver.port = 80\nserver.modules = ("mod_accesslog")
accesslog.filename = "${folder}/access.log"\naccesslog.format = "from %h."
index-file.names = ("lighttpd.conf")\n`,
      ),
    ],
    question: http,
    answer: /document-root/,
    log: { file: "access.log", pattern: /from 127\.0\.0\.1\./ },
  },
  {
    name: "apache2, event",
    binary: "apache2",
    prepare: (folder) => apache(folder, "event"),
    question: http,
    answer: /LoadModule/,
    log: { file: "access.log", pattern: /from (127\.0\.0\.1|::1)\.\n/ },
  },
  {
    name: "apache2, prefork",
    binary: "apache2",
    prepare: (folder) => apache(folder, "prefork"),
    question: http,
    answer: /LoadModule/,
    log: { file: "access.log", pattern: /from (127\.0\.0\.1|::1)\.\n/ },
  },
  {
    name: "redis, IPv4 and IPv6",
    binary: "redis-server",
    prepare: (folder) => [
      "redis-server",
      "--port",
      "80",
      "--bind",
      "*",
      "-::*",
      "--protected-mode",
      "no",
      "--dir",
      folder,
    ],
    question: "CLIENT INFO\r\nQUIT\r\n",
    answer: /addr=(127\.0\.0\.1|\[::1\]):\d+ laddr=(127\.0\.0\.1|\[::1\]):/,
  },
  {
    name: "memcached, 4 threads",
    binary: "memcached",
    prepare: () => ["memcached", "-u", "root", "-p", "80", "-U", "0", "-t", "4"],
    question: "stats conns\r\nquit\r\n",
    answer: /\d+:addr tcp6?:(\[?::\]?|0\.0\.0\.0):80\r\n/,
  },
  {
    name: "varnish, which sets options on the listener and asserts that it may",
    binary: "varnishd",
    prepare: (folder) => [
      "varnishd",
      "-F",
      "-n",
      join(folder, "varnish"),
      "-a",
      ":80",
      "-f",
      write(
        folder,
        "v.vcl",
        `vcl 4.1; backend default none; sub vcl_recv { return (synth(200)); }
sub vcl_synth { set resp.body = "from " + client.ip + "."; return (deliver); }`,
      ),
    ],
    question: http,
    answer: /from (127\.0\.0\.1|::1)\./,
  },
  {
    name: "Python http.server, which prints what it listens on",
    binary: "python3",
    prepare: (folder) => [
      "python3",
      "-u",
      "-m",
      "http.server",
      "80",
      "--bind",
      "127.0.0.1",
      "--directory",
      folder,
    ],
    question: http,
    answer: /200 OK/,
  },
  {
    name: "Python asyncio",
    binary: "python3",
    prepare: python(
      "import asyncio",
      "async def serve(reader, writer):",
      "    await reader.readline()",
      "    peer = writer.get_extra_info('peername')[0]",
      "    writer.write(f'from {peer}.'.encode()); await writer.drain(); writer.close()",
      "async def main():",
      "    server = await asyncio.start_server(serve, None, 80)",
      "    assert all(s.getsockname()[1] == 80 for s in server.sockets)",
      "    await server.serve_forever()",
      "asyncio.run(main())",
    ),
    question: "hello\n",
    answer: /from (127\.0\.0\.1|::1)\./,
  },
  {
    name: "gunicorn, 2 workers",
    binary: "gunicorn",
    prepare: (folder) => {
      write(
        folder,
        "app.py",
        `def app(environ, start):
 start("200 OK", [])
 return [("from " + environ["REMOTE_ADDR"] + ".").encode()]
`,
      );
      return ["gunicorn", "--chdir", folder, "-w", "2", "-b", "[::]:80", "app:app"];
    },
    question: http,
    answer: /from (::ffff:127\.0\.0\.1|::1)\./,
  },
  ...["rr", "none"].map(
    (policy): Daemon => ({
      name: `Node, cluster of 2, scheduling policy ${policy}`,
      binary: "node",
      prepare: (folder) => [
        "env",
        `NODE_CLUSTER_SCHED_POLICY=${policy}`,
        "node",
        write(
          folder,
          "cluster.js",
          `const cluster = require("cluster");
           if (cluster.isPrimary) {
             cluster.fork(); cluster.fork();
             process.on("SIGTERM", () => process.exit());
           } else require("http").createServer((request, response) => {
             response.end("from " + request.socket.remoteAddress + ".");
           }).listen(80);`,
        ),
      ],
      question: http,
      answer: /from (::ffff:127\.0\.0\.1|::1)\./,
    }),
  ),
  {
    name: "PHP's own server",
    binary: "php",
    prepare: (folder) => [
      "php",
      "-S",
      "0.0.0.0:80",
      write(folder, "index.php", "<?php echo 'from ' . $_SERVER['REMOTE_ADDR'] . '.';"),
    ],
    question: http,
    answer: /from [0-9.]+\./,
  },
  {
    name: "Ruby TCPServer",
    binary: "ruby",
    prepare: (folder) => [
      "ruby",
      write(
        folder,
        "server.rb",
        `require "socket"
s = TCPServer.new("::", 80)
raise unless s.local_address.ip_port == 80
loop { c = s.accept; c.gets; c.write("from #{c.peeraddr(false)[3]}."); c.close }`,
      ),
    ],
    question: "hello\n",
    answer: /from (::ffff:127\.0\.0\.1|::1)\./,
  },
  {
    name: "Java ServerSocket",
    binary: "java",
    prepare: (folder) => [
      "java",
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1",
      write(
        folder,
        "Server.java",
        `import java.net.*;
public class Server { public static void main(String[] a) throws Exception {
  ServerSocket s = new ServerSocket(80, 50);
  if (s.getLocalPort() != 80) throw new Exception("port " + s.getLocalPort());
  for (;;) try (Socket c = s.accept()) {
    c.getInputStream().read();
    c.getOutputStream().write(("from " + c.getInetAddress().getHostAddress() + ".").getBytes());
  } } }`,
      ),
    ],
    question: "\n",
    answer: /from (127\.0\.0\.1|0:0:0:0:0:0:0:1)\./,
  },
  {
    name: "PostgreSQL",
    binary: "/usr/lib/postgresql/15/bin/postgres",
    prepare: (folder) => {
      const bin = "/usr/lib/postgresql/15/bin";
      const as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
      must([...as, `${bin}/initdb`, "-D", `${folder}/data`, "-A", "trust", "--no-sync", "--no-instructions"]);
      const settings = {
        listen_addresses: "*",
        port: "80",
        unix_socket_directories: "",
        max_connections: "100",
      };
      const log = {
        log_connections: "on",
        logging_collector: "on",
        log_directory: folder,
        log_filename: "log",
      };
      const options = Object.entries({ ...settings, ...log }).flatMap(([name, value]) => [
        "-c",
        `${name}=${value}`,
      ]);
      return [...as, `${bin}/postgres`, "-D", `${folder}/data`, ...options];
    },
    question: "\0\0\0\x08\x04\xd2\x16\x2f", // SSLRequest
    answer: /^N$/,
    enough: "N",
    log: { file: "log", pattern: /connection received: host=127\.0\.0\.1 port=\d+/ },
  },
  {
    name: "MariaDB",
    binary: "mariadbd",
    prepare: (folder) => {
      must([
        "mariadb-install-db",
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        `--datadir=${folder}/data`,
      ]);
      const options = [
        "--port=80",
        `--socket=${folder}/unix`,
        "--skip-name-resolve",
        "--max-connections=500",
      ];
      return ["mariadbd", "--no-defaults", "--user=root", `--datadir=${folder}/data`, ...options];
    },
    question: "",
    answer: /MariaDB/,
    enough: "MariaDB",
  },
  {
    name: "mosquitto",
    binary: "mosquitto",
    prepare: (folder) => {
      const text = `listener 80\nallow_anonymous true\nuser root\nlog_dest file ${folder}/log\n`;
      return ["mosquitto", "-c", write(folder, "m.conf", text)];
    },
    question: "\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00",
    answer: /^ /, // CONNACK
    enough: " ",
    log: { file: "log", pattern: /New connection from (127\.0\.0\.1|::ffff:127\.0\.0\.1):\d+ on port 80/ },
  },
  {
    name: "OpenSSH, which executes itself for every connection",
    binary: "sshd",
    prepare: (folder) => {
      must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(folder, "key")]);
      mkdirSync("/run/sshd", { recursive: true });
      const text = `Port 80\nHostKey ${folder}/key\nLogLevel VERBOSE\nMaxStartups 1000\nPidFile none\n`;
      return ["/usr/sbin/sshd", "-D", "-E", join(folder, "log"), "-f", write(folder, "sshd.conf", text)];
    },
    question: "",
    answer: /^SSH-2\.0-OpenSSH/,
    enough: "SSH-2.0-",
    log: { file: "log", pattern: /Connection from 127\.0\.0\.1 port \d+ on 127\.0\.0\.1 port/ },
  },
  {
    name: "vsftpd",
    binary: "vsftpd",
    prepare: (folder) => {
      mkdirSync("/var/run/vsftpd/empty", { recursive: true });
      const text =
        "listen=YES\nlisten_port=80\nbackground=NO\nanonymous_enable=YES\nmax_clients=0\nmax_per_ip=0\n";
      return ["vsftpd", write(folder, "vsftpd.conf", text)];
    },
    question: "",
    answer: /^220 /,
    enough: "220 ",
  },
  {
    name: "dovecot, which empties the environment of the process that accepts",
    binary: "dovecot",
    prepare: (folder) => {
      const text = `base_dir = ${folder}/base
state_dir = ${folder}
log_path = ${folder}/log
protocols = imap
listen = *, ::
ssl = no
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.0/8
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=${folder}
}
service imap-login {
  inet_listener imap {
    port = 80
  }
  inet_listener imaps {
    port = 0
  }
}
`;
      return ["dovecot", "-F", "-c", write(folder, "dovecot.conf", text)];
    },
    question: "a LOGIN user wrong\r\nb LOGOUT\r\n",
    answer: /Dovecot.* ready/,
    enough: "ready",
  },
  {
    name: "postfix, which empties the environment of the process that accepts",
    binary: "postfix",
    prepare: (folder) => {
      mkdirSync(join(folder, "data"));
      mkdirSync(join(folder, "queue"));
      must(["chown", "postfix", join(folder, "data")]);
      write(
        folder,
        "main.cf",
        `queue_directory = ${folder}/queue\ndata_directory = ${folder}/data\ncompatibility_level = 3.6
maillog_file_prefixes = ${folder}\nmaillog_file = ${folder}/log\nmyhostname = mail.example
inet_interfaces = all\ninet_protocols = all
default_process_limit = 30\nsmtpd_client_connection_count_limit = 0\n`,
      );
      write(
        folder,
        "master.cf",
        `80 inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\nanvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite\nproxymap unix - - n - - proxymap\ntlsmgr unix - - n 1000? 1 tlsmgr\n`,
      );
      chmodSync(folder, 0o755);
      must(["postfix", "-c", folder, "check"]);
      return ["/usr/lib/postfix/sbin/master", "-c", folder, "-d"];
    },
    question: "QUIT\r\n",
    answer: /^220 mail\.example ESMTP/,
    log: { file: "log", pattern: /connect from (localhost|unknown)\[127\.0\.0\.1\]/ },
  },
  {
    name: "PHP-FPM over TCP",
    binary: "php-fpm8.2",
    prepare: (folder) => {
      const text = `[global]\nerror_log = ${folder}/log\n[www]\nuser = www-data\ngroup = www-data\nlisten = 80
pm = static\npm.max_children = 4\nping.path = /ping\n`;
      return ["php-fpm8.2", "-F", "-y", write(folder, "fpm.conf", text)];
    },
    question: fastCgi({ SCRIPT_NAME: "/ping", SCRIPT_FILENAME: "/ping", REQUEST_METHOD: "GET" }),
    answer: /pong/,
  },
  {
    name: "socat, a child for every connection",
    binary: "socat",
    prepare: () => [
      "socat",
      "TCP4-LISTEN:80,reuseaddr,fork,backlog=100",
      "SYSTEM:echo from $SOCAT_PEERADDR.",
    ],
    question: "",
    answer: /from [0-9.]+\.\n/,
  },
  {
    name: "uvicorn, 2 workers",
    binary: "uvicorn",
    prepare: (folder) => {
      write(
        folder,
        "app.py",
        `async def app(scope, receive, send):
 if scope["type"] != "http": return
 await send({"type": "http.response.start", "status": 200, "headers": []})
 await send({"type": "http.response.body", "body": ("from " + scope["client"][0] + ".").encode()})
`,
      );
      return ["uvicorn", "--app-dir", folder, "--workers", "2", "--host", "::", "--port", "80", "app:app"];
    },
    question: http,
    answer: /from (::ffff:127\.0\.0\.1|::1)\./,
  },
];

/** Runs a command that prepares something, outside the library. */
function must(argv: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(argv, { stdout: "ignore" });
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
}

/** A FastCGI request (FastCGI specification, 3.3) without a body. */
function fastCgi(variables: Record<string, string>): string {
  const record = (type: number, body: string) =>
    String.fromCharCode(1, type, 0, 1, body.length >> 8, body.length & 255, 0, 0) + body;
  const pairs = Object.entries(variables).map(
    ([name, value]) => String.fromCharCode(name.length, value.length) + name + value,
  );
  return record(1, "\0\x01\0\0\0\0\0\0") + record(4, pairs.join("")) + record(4, "") + record(5, "");
}

function apache(folder: string, mpm: string): string[] {
  const modules = "/usr/lib/apache2/modules";
  const text = `ServerRoot ${folder}
LoadModule mpm_${mpm}_module ${modules}/mod_mpm_${mpm}.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule dir_module ${modules}/mod_dir.so
ServerName localhost
PidFile ${folder}/apache.pid
DefaultRuntimeDir ${folder}
ErrorLog ${folder}/error.log
LogFormat "from %a." plain
CustomLog ${folder}/access.log plain
User www-data
Group www-data
Listen 80
DocumentRoot ${folder}
DirectoryIndex apache.conf
<Directory ${folder}>
Require all granted
</Directory>
`;
  return ["apache2", "-f", write(folder, "apache.conf", text), "-DFOREGROUND"];
}

const root = scratchFolder();
const path = `${process.env.PATH}:/usr/sbin`;

daemons.forEach((daemon, index) => {
  const missing =
    noCompiler ??
    (Bun.which(daemon.binary, { PATH: path }) ? undefined : `${daemon.binary} is not installed`);
  test.skipIf(missing !== undefined)(
    `${daemon.name}: every connection is answered, its client known${missing ? ` (${missing})` : ""}`,
    async () => {
      const folder = join(root, `${index}`);
      mkdirSync(folder);
      chmodSync(folder, 0o777);
      const socket = join(folder, "receiver");
      const env = under({ SOCKETBOX_MAP: mapOf({ 80: socket }) });
      await using sender = await startSender(compile("sender", root), socket);
      await using running = new Running(daemon.prepare(folder), env, { cwd: folder });
      const host = ["127.0.0.1", "::1"];
      for (const one of host)
        expect(await ask(sender.port, one, daemon.question, daemon.enough)).toMatch(daemon.answer);
      let turn = 0;
      const answers = await askOften(200, () =>
        ask(sender.port, host[turn++ % 2]!, daemon.question, daemon.enough),
      );
      expect(answers.filter((answer) => !daemon.answer.test(answer))).toEqual([]);
      expect(running.child.exitCode).toBeNull();
      const { log } = daemon;
      if (log)
        await until("the log names the client", () =>
          log.pattern.test(readFileSync(join(folder, log.file), "latin1")),
        );
    },
    90_000,
  );
});
