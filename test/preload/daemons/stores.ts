/** Databases, caches and brokers. */
import { join } from "node:path";
import { CLIENT, type Daemon, must, write } from "./daemon.ts";

const POSTGRES = "/usr/lib/postgresql/15/bin";

const int32 = (value: number) =>
  String.fromCharCode(value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255);
/** Messages of PostgreSQL's protocol, version 3.0. */
const postgresStartup = "\0\x03\0\0user\0postgres\0database\0postgres\0\0";
const query = (text: string) => `Q${int32(text.length + 5)}${text}\0`;

const redis = {
  name: "redis",
  binary: "redis-server",
  version: ["redis-server", "--version"],
  question: "CLIENT INFO\r\nQUIT\r\n",
  restart: {
    kind: "cut",
    signal: "SIGTERM",
    why: "it closes what it has not answered",
  },
} as const;

export const stores: readonly Daemon[] = [
  {
    ...redis,
    tried: "--bind * -::* (IPv4 and IPv6 on one port); stop (TERM) and start",
    prepare: (folder) => [
      ..."redis-server --port 80 --bind * -::* --protected-mode no --save --dir".split(" "),
      folder,
    ],
    answer: new RegExp(`addr=(${CLIENT}:\\d+ laddr=127\\.0\\.0\\.80:|\\[::1\\]:\\d+ laddr=\\[::1\\]:)`),
    tellsServer: true,
  },
  {
    ...redis,
    name: "redis, 127.180.0.1",
    tried: "an IPv4 address of the original; IPv6 clients have a stand-in address; stop (TERM) and start",
    prepare: (folder) => [
      ..."redis-server --port 80 --bind 127.180.0.1 --protected-mode no --save --dir".split(" "),
      folder,
    ],
    answer: new RegExp(
      `addr=(${CLIENT}:\\d+ laddr=127\\.0\\.0\\.80|2[45]\\d\\.\\d+\\.\\d+\\.\\d+:\\d+ laddr=2[45])`,
    ),
    tellsServer: true,
    original: (folder) => ({
      variables: { SKBOX_DIRECTORY_ROOT2: folder, SKBOX_PORT_FILTER_IPV4: "1024" },
      path: join(folder, "X4000/00001_00080"),
    }),
  },
  {
    name: "memcached",
    tried: "-p 80 -t 4; stop (TERM) and start",
    binary: "memcached",
    version: ["memcached", "-V"],
    prepare: () => "memcached -u root -p 80 -U 0 -t 4".split(" "),
    question: "stats conns\r\nquit\r\n",
    answer: new RegExp(`addr tcp6?:(${CLIENT}|\\[?::ffff:${CLIENT}\\]?|\\[?::1\\]?):\\d+\\r\\n`),
    restart: {
      kind: "cut",
      signal: "SIGTERM",
      why: "it closes its connections",
    },
  },
  {
    name: "PostgreSQL",
    tried:
      "listen_addresses = *, port = 80; a session and a query for each client; stop (TERM, smart) and start",
    binary: `${POSTGRES}/postgres`,
    version: [`${POSTGRES}/postgres`, "--version"],
    prepare: (folder) => {
      const as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
      const init = [`${POSTGRES}/initdb`, "-D", `${folder}/data`, "-A", "trust", "--no-sync", "-N"];
      if (Bun.spawnSync(["test", "-d", `${folder}/data`]).exitCode) must([...as, ...init]);
      const settings = {
        listen_addresses: "*",
        port: "80",
        unix_socket_directories: "",
        max_connections: "100",
        fsync: "off",
        log_connections: "on",
        logging_collector: "on",
        log_directory: folder,
        log_filename: "log",
        hba_file: write(folder, "hba", "host all all all trust\n"),
      };
      const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
      return [...as, `${POSTGRES}/postgres`, "-D", `${folder}/data`, ...options];
    },
    question:
      int32(postgresStartup.length + 4) +
      postgresStartup +
      query("SELECT inet_client_addr()") +
      "X\0\0\0\x04",
    answer: new RegExp(`D[\\s\\S]{10}(${CLIENT}|::1)C[\\s\\S]*Z`), // DataRow, CommandComplete, ReadyForQuery
    log: { file: "log", pattern: new RegExp(`connection received: host=${CLIENT} port=\\d+`) },
    refusal: {
      answer: /C57P03\0Mthe database system is (starting up|shutting down|not yet accepting connections)/,
      told: "whom it accepts while it starts or stops is told so",
    },
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "MariaDB",
    tried: "--port=80; stop (TERM) and start",
    binary: "mariadbd",
    version: ["mariadbd", "--version"],
    prepare: (folder) => {
      const install = "mariadb-install-db --no-defaults --auth-root-authentication-method=normal".split(" ");
      if (Bun.spawnSync(["test", "-d", `${folder}/data`]).exitCode)
        must([...install, `--datadir=${folder}/data`]);
      const options = [
        "--port=80",
        `--socket=${folder}/unix`,
        `--log-error=${folder}/log`,
        "--log-warnings=4",
        "--skip-name-resolve",
        "--max-connections=500",
        "--max-connect-errors=100000",
      ];
      return ["mariadbd", "--no-defaults", "--user=root", `--datadir=${folder}/data`, ...options];
    },
    question: "",
    answer: /MariaDB/,
    enough: "MariaDB",
    log: { file: "log.err", pattern: new RegExp(`Aborted connection .* host: '(::ffff:)?${CLIENT}'`) },
    restart: {
      kind: "cut",
      signal: "SIGTERM",
      why: "it closes its connections",
    },
  },
  {
    name: "mosquitto",
    tried: "listener 80; stop (TERM) and start",
    binary: "mosquitto",
    version: ["mosquitto", "-h"],
    prepare: (folder) => {
      const text = `listener 80\nallow_anonymous true\nuser root\nlog_dest file ${folder}/log\n`;
      return ["mosquitto", "-c", write(folder, "m.conf", text)];
    },
    question: "\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00",
    answer: /^ /, // CONNACK
    enough: " ",
    log: { file: "log", pattern: new RegExp(`New connection from (::ffff:)?${CLIENT}:\\d+ on port 80`) },
    restart: {
      kind: "cut",
      signal: "SIGTERM",
      why: "it closes its connections",
    },
  },
];
