/** Web servers and proxies. */
import { join } from "node:path";
import { CLIENT, type Daemon, FROM, HTTP, SERVER, write } from "./daemon.ts";

function nginx(listen: string): Daemon["prepare"] {
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
      `daemon off; pid nginx.pid; worker_processes 4; events { worker_connections 256; }
       http { log_format plain "to $server_addr from $remote_addr."; access_log access.log plain;
       server { ${listen} location / { return 200 "to $server_addr from $remote_addr.\\n"; } } }`,
    ),
  ];
}

const nginxAnswer = new RegExp(`to (${SERVER} from ${CLIENT}|::1 from ::1)\\.\\n`);
const nginxBase = {
  binary: "nginx",
  version: ["nginx", "-v"],
  question: HTTP,
  answer: nginxAnswer,
  log: { file: "access.log", pattern: nginxAnswer },
  tellsServer: true,
  restart: { kind: "reload", signal: "SIGHUP" },
} as const;

function apache(mpm: string): Daemon {
  return {
    name: `apache2, ${mpm}`,
    tried: "Listen 80; graceful restart (USR1)",
    binary: "apache2",
    version: ["apache2", "-v"],
    prepare: (folder) => {
      const modules = "/usr/lib/apache2/modules";
      const text = `ServerRoot ${folder}
LoadModule mpm_${mpm}_module ${modules}/mod_mpm_${mpm}.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule dir_module ${modules}/mod_dir.so
ServerName localhost
PidFile ${folder}/apache.pid
DefaultRuntimeDir ${folder}
ErrorLog ${folder}/error.log
LogFormat "to %A from %a." plain
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
    },
    question: HTTP,
    answer: /LoadModule/,
    log: {
      file: "access.log",
      pattern: new RegExp(`to (${SERVER} from ${CLIENT}|::1 from ::1)\\.\\n`),
    },
    tellsServer: true,
    restart: { kind: "reload", signal: "SIGUSR1" },
  };
}

export const web: readonly Daemon[] = [
  {
    ...nginxBase,
    name: "nginx, 4 workers",
    tried: "listen 80 and [::]:80; reload (HUP)",
    prepare: nginx("listen 80; listen [::]:80 ipv6only=on;"),
  },
  {
    ...nginxBase,
    name: "nginx, binary upgrade",
    tried: "USR2 and QUIT; it cleans the environment of the new program",
    // It would ignore USR2 as long as the process that started it is its parent, which ends when nginx has seen it.
    prepare: (folder) => {
      const command = nginx("listen 80; listen [::]:80 ipv6only=on;")(folder);
      const start = '("$@" & until [ -s nginx.pid ]; do sleep 0.01; done); exec sleep 600';
      return ["sh", "-c", start, "sh", "/usr/sbin/nginx", ...command.slice(1)];
    },
    restart: { kind: "upgrade" },
  },
  {
    ...nginxBase,
    name: "nginx, reuseport",
    tried:
      "listen 80 reuseport deferred fastopen so_keepalive: a listener for each of 4 workers; reload (HUP)",
    prepare: nginx("listen [::]:80 ipv6only=off reuseport so_keepalive=on deferred fastopen=16;"),
    answer: new RegExp(`to (::ffff:)?(${SERVER} from (::ffff:)?${CLIENT}|::1 from ::1)\\.\\n`),
    log: {
      file: "access.log",
      pattern: new RegExp(`to (::ffff:)?(${SERVER} from (::ffff:)?${CLIENT}|::1 from ::1)\\.\\n`),
    },
  },
  {
    ...nginxBase,
    name: "nginx, [fe8f::2:1:1]",
    tried: "an address of the original, which it takes for the server's; stop (QUIT) and start",
    prepare: nginx("listen [fe8f::2:1:1]:80;"),
    answer: FROM,
    log: { file: "access.log", pattern: FROM },
    tellsServer: false,
    restart: { kind: "stop", signal: "SIGQUIT" },
    original: (folder) => ({
      variables: { SKBOX_DIRECTORY_ROOT2: folder },
      path: join(folder, "00001/00001_00080"),
    }),
  },
  apache("event"),
  apache("worker"),
  apache("prefork"),
  {
    name: "haproxy, 2 threads",
    tried: "nbthread 2, shards 2; master and worker, reload (USR2)",
    binary: "haproxy",
    version: ["haproxy", "-v"],
    prepare: (folder) => [
      "haproxy",
      "-W",
      "-db",
      "-f",
      write(
        folder,
        "haproxy.cfg",
        `global\n nbthread 2
defaults\n mode http\n timeout client 9s\n timeout server 9s\n timeout connect 9s
frontend f\n bind :::80 v4v6 shards 2
 http-request return status 200 content-type text/plain lf-string "to %[dst] from %[src]."\n`,
      ),
    ],
    question: HTTP,
    answer: new RegExp(
      `to (${SERVER} from ${CLIENT}|::ffff:${SERVER} from ::ffff:${CLIENT}|::1 from ::1)\\.`,
    ),
    tellsServer: true,
    restart: { kind: "reload", signal: "SIGUSR2" },
  },
  {
    name: "lighttpd",
    tried: "server.port = 80, 2 workers; graceful stop (INT) and start",
    binary: "lighttpd",
    version: ["lighttpd", "-v"],
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
    question: HTTP,
    answer: /document-root/,
    log: { file: "access.log", pattern: FROM },
    restart: { kind: "stop", signal: "SIGINT" },
  },
  {
    name: "varnish",
    tried: "-a :80; it sets options on the listener and asserts that it may; stop (TERM) and start",
    binary: "varnishd",
    version: ["varnishd", "-V"],
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
sub vcl_synth { set resp.body = "to " + server.ip + " from " + client.ip + "."; return (deliver); }`,
      ),
    ],
    question: HTTP,
    answer: new RegExp(`to (${SERVER} from ${CLIENT}|::1 from ::1)\\.`),
    tellsServer: true,
    restart: {
      kind: "cut",
      signal: "SIGTERM",
      why: "its child ends with what it serves",
    },
  },
  {
    name: "PHP-FPM",
    tried: "listen = 80, 4 children; graceful stop (QUIT) and start",
    binary: "php-fpm8.2",
    version: ["php-fpm8.2", "-v"],
    prepare: (folder) => {
      const text = `[global]\nerror_log = ${folder}/error.log\nprocess_control_timeout = 5s
[www]\nuser = www-data\ngroup = www-data\nlisten = 80\naccess.log = ${folder}/access.log
access.format = "from %R."\npm = static\npm.max_children = 4\nping.path = /ping\n`;
      return ["php-fpm8.2", "-F", "-y", write(folder, "fpm.conf", text)];
    },
    question: fastCgi({ SCRIPT_NAME: "/ping", SCRIPT_FILENAME: "/ping", REQUEST_METHOD: "GET" }),
    answer: /pong/,
    log: { file: "access.log", pattern: FROM },
    restart: { kind: "stop", signal: "SIGQUIT" },
  },
];

/** A FastCGI request (FastCGI specification, 3.3) without a body. */
function fastCgi(variables: Record<string, string>): string {
  const record = (type: number, body: string) =>
    String.fromCharCode(1, type, 0, 1, body.length >> 8, body.length & 255, 0, 0) + body;
  const pairs = Object.entries(variables).map(
    ([name, value]) => String.fromCharCode(name.length, value.length) + name + value,
  );
  return record(1, "\0\x01\0\0\0\0\0\0") + record(4, pairs.join("")) + record(4, "") + record(5, "");
}
