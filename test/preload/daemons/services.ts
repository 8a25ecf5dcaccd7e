/** Login, mail and file transfer. */
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { CLIENT, type Daemon, must, SERVER, write } from "./daemon.ts";

export const services: readonly Daemon[] = [
  {
    name: "OpenSSH",
    tried: "sshd -D, which executes itself for every connection; stop (TERM) and start",
    binary: "sshd",
    version: ["ssh", "-V"],
    prepare: (folder) => {
      if (Bun.spawnSync(["test", "-f", join(folder, "key")]).exitCode)
        must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(folder, "key")]);
      mkdirSync("/run/sshd", { recursive: true });
      const text = `Port 80\nHostKey ${folder}/key\nLogLevel VERBOSE\nMaxStartups 1000\nPidFile none\n`;
      return ["/usr/sbin/sshd", "-D", "-E", join(folder, "log"), "-f", write(folder, "sshd.conf", text)];
    },
    question: "",
    answer: /^SSH-2\.0-OpenSSH/,
    enough: "SSH-2.0-",
    log: { file: "log", pattern: new RegExp(`Connection from ${CLIENT} port \\d+ on ${SERVER} port`) },
    tellsServer: true,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "exim",
    tried: "-bdf, a child for every connection; stop (TERM) and start",
    binary: "exim4",
    version: ["exim4", "-bV"],
    prepare: (folder) => {
      const text = `primary_hostname = mail.example\nspool_directory = ${folder}/spool\nlog_file_path = ${folder}/%slog
daemon_smtp_ports = 80\nlocal_interfaces = <; 0.0.0.0 ; ::0\nlog_selector = +smtp_connection +incoming_interface
smtp_accept_max = 0\nhost_lookup =\nrfc1413_query_timeout = 0s\ntls_advertise_hosts =\nkeep_environment =\n`;
      must(["install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", `${folder}/spool`]);
      // The binary is set-uid to root, which we are.
      return ["exim4", "-C", write(folder, "exim.conf", text), "-bdf", "-oP", `${folder}/spool/pid`];
    },
    question: "QUIT\r\n",
    answer: /^220 mail\.example ESMTP Exim[\s\S]*221 /,
    log: { file: "mainlog", pattern: new RegExp(`SMTP connection from \\[${CLIENT}\\]`) },
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "postfix",
    tried: "inet_interfaces = all; master empties the environment of smtpd, which accepts; reload (HUP)",
    binary: "apt-get",
    need: {
      name: "Debian's package of postfix, or a way to fetch it",
      met: () => Bun.spawnSync(["apt-get", "--print-uris", "download", "postfix"]).exitCode === 0,
    },
    version: ["apt-cache", "show", "postfix"],
    prepare: postfix,
    question: "QUIT\r\n",
    answer: /^220 mail\.example ESMTP[\s\S]*221 /,
    log: { file: "log", pattern: new RegExp(`connect from unknown\\[${CLIENT}\\]`) },
    restart: { kind: "reload", signal: "SIGHUP" },
  },
  {
    name: "dovecot",
    tried:
      "imap on port 80; it empties the environment of the process that accepts; stop (TERM, shutdown_clients = no) and start",
    binary: "dovecot",
    version: ["dovecot", "--version"],
    prepare: (folder) => {
      const text = `base_dir = ${folder}/base
state_dir = ${folder}
log_path = ${folder}/log
protocols = imap
listen = *, ::
ssl = no
shutdown_clients = no
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
    question: "b LOGOUT\r\n",
    answer: /Dovecot.* ready/,
    log: { file: "log", pattern: new RegExp(`rip=${CLIENT}, lip=${SERVER}`) },
    tellsServer: true,
    restart: { kind: "stop", signal: "SIGTERM" },
  },
  {
    name: "vsftpd",
    tried: "listen_port=80, a child for every connection; stop (TERM) and start",
    binary: "vsftpd",
    version: ["dpkg-query", "-W", "vsftpd"],
    prepare: (folder) => {
      mkdirSync("/var/run/vsftpd/empty", { recursive: true });
      const text = `listen=NO\nlisten_ipv6=YES\nlisten_port=80\nbackground=NO\nanonymous_enable=YES\nmax_clients=0
max_per_ip=0\nxferlog_enable=YES\nxferlog_std_format=NO\nvsftpd_log_file=${folder}/log\nlog_ftp_protocol=YES\n`;
      return ["vsftpd", write(folder, "vsftpd.conf", text)];
    },
    question: "QUIT\r\n",
    answer: /^220 [\s\S]*221 /,
    log: { file: "log", pattern: new RegExp(`CONNECT: Client "(::ffff:)?${CLIENT}"`) },
    restart: {
      kind: "cut",
      signal: "SIGTERM",
      why: "its children end with it",
      uncaught: true,
    },
  },
];

/** Debian lets only one mail server be installed, and exim is: this one is unpacked, not installed. */
function postfix(folder: string): string[] {
  const root = join(folder, "unpacked");
  const libraries = `${root}/usr/lib/postfix`;
  if (!existsSync(root)) {
    const { exitCode, stderr } = Bun.spawnSync(["apt-get", "download", "-q", "postfix"], { cwd: folder });
    const archive = readdirSync(folder).find((name) => name.endsWith(".deb"));
    if (exitCode !== 0 || !archive) throw new Error(stderr.toString());
    must(["dpkg-deb", "-x", join(folder, archive), root]);
  }
  for (const name of [
    "pid",
    "private",
    "public",
    "maildrop",
    "incoming",
    "active",
    "deferred",
    "bounce",
    "defer",
  ])
    mkdirSync(join(folder, "queue", name), { recursive: true });
  mkdirSync(join(folder, "data"), { recursive: true });
  must(["chown", "-R", "Debian-exim", join(folder, "data"), join(folder, "queue")]);
  must(["chown", "root", join(folder, "queue"), join(folder, "queue/pid")]);
  write(
    folder,
    "main.cf",
    `queue_directory = ${folder}/queue\ndata_directory = ${folder}/data\ncompatibility_level = 3.6
mail_owner = Debian-exim\nsetgid_group = mail\ndaemon_directory = ${libraries}/sbin
command_directory = ${root}/usr/sbin\nshlib_directory = ${libraries}\nmeta_directory = ${root}/etc/postfix
import_environment = LD_LIBRARY_PATH=${libraries} MAIL_CONFIG MAIL_LOGTAG POSTLOG_SERVICE POSTLOG_HOSTNAME TZ
maillog_file_prefixes = ${folder}\nmaillog_file = ${folder}/log\nmyhostname = mail.example
smtpd_peername_lookup = no\ninet_interfaces = all\ninet_protocols = all
smtpd_recipient_restrictions = reject\ndefault_process_limit = 30\nsmtpd_client_connection_count_limit = 0\n`,
  );
  write(
    folder,
    "master.cf",
    `80 inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\nanvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite\nproxymap unix - - n - - proxymap\ntlsmgr unix - - n 1000? 1 tlsmgr\n`,
  );
  must(["chmod", "755", folder]);
  return ["env", `LD_LIBRARY_PATH=${libraries}`, `${libraries}/sbin/master`, "-c", folder, "-d"];
}
