/**
 * One server on one port, two daemons behind two addresses, one address denied. All of 127.0.0.0/8 reaches this
 * machine, as a whole IPv6 prefix would after `ip -6 route add local 2001:db8:1::/64 dev lo`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folder = mkdtempSync(join(tmpdir(), "sb-demo-"));
const port = await freePort();
const started: ChildProcess[] = [];

const configuration = `
[[listen]]
port = ${port}
device = "lo"        # loopback only

[[route]]
local = "127.0.0.2"
to = "unix:${folder}/apple"

[[route]]
local = "127.0.0.3"
to = "unix:${folder}/pear"

[[route]]
to = "deny"
`;

try {
  writeFileSync(`${folder}/demo.toml`, configuration);
  console.log(`The configuration:\n${configuration.replace(/^/gm, "    ")}`);
  for (const name of ["apple", "pear"]) {
    const program = `echo "I am ${name}, at $TCPLOCALIP port $TCPLOCALPORT. You are $TCPREMOTEIP port $TCPREMOTEPORT."`;
    await start("socketbox-inetd", `${folder}/${name}`, "sh", "-c", program);
  }
  const server = await start("socketbox", "-f", `${folder}/demo.toml`);
  console.log(
    `One socket listens on port ${port}. Behind it wait two programs, each with a Unix socket and no port.\n`,
  );
  await visit("127.0.0.2");
  await visit("127.0.0.3");
  await visit("127.0.0.4");
  server.kill("SIGTERM");
  await new Promise((resolve) => server.once("exit", resolve));
} finally {
  await Promise.all(
    started
      .filter(({ exitCode }) => exitCode === null)
      .map((program) => {
        const ended = new Promise((resolve) => program.once("exit", resolve));
        program.kill("SIGTERM");
        return ended;
      }),
  );
  rmSync(folder, { recursive: true, force: true });
}

/** Starts one of our programs, shows its log, and waits until it is ready. */
function start(name: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(join(import.meta.dir, name), args, { stdio: ["ignore", "inherit", "pipe"] });
  started.push(child);
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`${name} ended with exit code ${code}`)));
    child.stderr.on("data", (data: Buffer) => {
      for (const line of data.toString().trimEnd().split("\n"))
        console.log(`    ${line.replace(/^\S+Z /, "")}`);
      if (data.includes(": ready: ")) resolve(child);
    });
  });
}

/** Connects from an address of its own, so that it can be told whose address the program sees. */
function visit(address: string): Promise<void> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect({ host: address, port, localAddress: "127.0.0.99" });
    socket.on("connect", () =>
      console.log(`\n127.0.0.99 port ${socket.localPort} connects to ${address} port ${port}`),
    );
    socket.on("data", (data) => {
      answer += data;
    });
    socket.on("error", (error) => {
      answer ||= `(${error.message})`;
    });
    socket.on("close", () => {
      console.log(`  ${answer.trim() || "(closed without a word: denied)"}`);
      setTimeout(resolve, 100);
    });
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
