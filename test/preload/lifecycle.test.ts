/** Who holds a path, from first bind to last close; several listeners; other processes; other families. */
import { describe, expect } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { program, root, testWith } from "../kit/require.ts";
import { freePort } from "../kit/running.ts";
import {
  ask,
  compile,
  library,
  linesOf,
  mapOf,
  Running,
  scratchFolder,
  startSender,
  under,
  until,
} from "./harness.ts";

const gcc = program("gcc");
const test = testWith(gcc, program("python3"));
const folder = scratchFolder();
const probe = gcc.met ? compile("probe", folder) : "";
const sender = gcc.met ? compile("sender", folder) : "";
const executes = gcc.met ? compile("executes", folder) : "";
const guest = gcc.met ? compile("guest", folder, "-Wl,-rpath,$ORIGIN/modules", "-ldl") : "";

/** A path of its own for a test, and the map that sends port 80 there. */
function fresh(): { path: string; variables: Record<string, string> } {
  const path = join(folder, `s${Bun.nanoseconds()}`);
  return { path, variables: { SOCKETBOX_MAP: mapOf({ 80: path, 81: path }) } };
}

const run = (words: string, variables: Record<string, string>) =>
  linesOf([probe, ...words.split(" ")], variables);

/** Starts the probe and reads its lines up to `waiting`. */
async function start(
  words: string,
  variables: Record<string, string>,
): Promise<Running & { lines: string[] }> {
  const running = new Running([probe, ...words.split(" ")], under(variables));
  const lines: string[] = [];
  for (let line = await running.line(); line !== "waiting"; line = await running.line()) lines.push(line);
  return Object.assign(running, { lines });
}

describe("a path", () => {
  test("held by a living process is EADDRINUSE for another", async () => {
    const { path, variables } = fresh();
    await using _holder = await start("4 bind 0.0.0.0 80 listen wait", variables);
    const before = statSync(path).ino;
    expect(await run("4 bind 0.0.0.0 80", variables)).toEqual(["bind EADDRINUSE"]);
    expect(statSync(path).ino).toBe(before);
  });

  test("left by one that was killed is replaced", async () => {
    const { path, variables } = fresh();
    const holder = await start("4 bind 0.0.0.0 80 wait", variables);
    holder.child.kill("SIGKILL");
    await holder.child.exited;
    expect(existsSync(path)).toBe(true);
    expect(await run("4 bind 0.0.0.0 80 listen", variables)).toEqual(["bind ok", "listen ok"]);
  });

  test("goes at close, at the end of the program, and with the socket's last copy only", async () => {
    const { path, variables } = fresh();
    const closing = await start("4 bind 0.0.0.0 80 listen close wait", variables);
    expect(existsSync(path)).toBe(false);
    await closing[Symbol.asyncDispose]();
    await run("4 bind 0.0.0.0 80 listen", variables);
    expect(existsSync(path)).toBe(false);
    await using parent = await start("4 bind 0.0.0.0 80 listen wait fork close exit", variables);
    parent.continue();
    expect(await parent.line()).toBe("close ok");
    expect(existsSync(path)).toBe(true);
  });

  test("outlives the process that bound it while a child serves", async () => {
    const { path, variables } = fresh();
    const script = `import os, socket
s = socket.create_server(("0.0.0.0", 80))
if os.fork():
    os._exit(0) if os.environ.get("HARD") else exit(0)
s.accept()[0].send(b"child\\n")`;
    for (const hard of ["", "1"]) {
      await using server = await startSender(sender, path);
      const parent = Bun.spawn(["python3", "-c", script], { env: under({ ...variables, HARD: hard }) });
      await parent.exited;
      expect(await ask(server.port, "127.0.0.1", "")).toBe("child\n");
      await until("the child has removed it", () => !existsSync(path));
    }
  });

  test("is not touched by a child of vfork that closes everything", async () => {
    const { path, variables } = fresh();
    const script = `import socket, subprocess
s = socket.create_server(("0.0.0.0", 80))
subprocess.run(["true"], close_fds=True)
assert s.getsockname() == ("0.0.0.0", 80)
s.accept()[0].send(b"still here\\n")`;
    await using server = await startSender(sender, path);
    await using _running = new Running(["python3", "-c", script], under(variables));
    expect(await ask(server.port, "127.0.0.1", "")).toBe("still here\n");
  });

  test("that is no socket stays", async () => {
    const { path, variables } = fresh();
    writeFileSync(path, "text");
    expect(await run("4 bind 0.0.0.0 80", variables)).toEqual(["bind ENOTSOCK"]);
    expect(readFileSync(path, "utf8")).toBe("text");
  });

  test("goes when another descriptor takes the listener's number, or a range of them is closed", async () => {
    const { path, variables } = fresh();
    for (const call of [
      "os.dup2(0, s.fileno())",
      "os.dup2(0, s.fileno(), inheritable=False)",
      "os.closerange(s.fileno(), s.fileno() + 1)",
      "ctypes.CDLL(None).closefrom(s.fileno())",
    ]) {
      const script = `import ctypes, os, socket
s = socket.create_server(("0.0.0.0", 80)); print(os.path.exists("${path}"))
${call}; print(os.path.exists("${path}")); s.detach()`;
      expect(await linesOf(["python3", "-c", script], variables)).toEqual(["True", "False"]);
    }
  });

  test("goes when it is closed by syscall(2), as Node closes", async () => {
    const { path, variables } = fresh();
    const script = `import ctypes, os, socket
s = socket.create_server(("0.0.0.0", 80)); print(os.path.exists("${path}"))
ctypes.CDLL(None).syscall(${process.arch === "arm64" ? 57 : 3}, s.fileno()); print(os.path.exists("${path}")); s.detach()`;
    expect(await linesOf(["python3", "-c", script], variables)).toEqual(["True", "False"]);
  });

  test("that was given relative is removed from another directory", async () => {
    const { path } = fresh();
    const name = path.slice(folder.length + 1);
    const script = `import os, socket
s = socket.create_server(("0.0.0.0", 80)); print(os.path.exists("${name}")); os.chdir("/"); s.close()`;
    const child = Bun.spawnSync(["python3", "-c", script], {
      env: under({ SOCKETBOX_MAP: mapOf({ 80: name }) }),
      cwd: folder,
    });
    expect(child.stdout.toString()).toBe("True\n");
    expect(existsSync(path)).toBe(false);
  });

  test("in the abstract namespace leaves no file and is served", async () => {
    const name = `@socketbox-${process.pid}-${Bun.nanoseconds()}`;
    await using server = await startSender(sender, name);
    await using _running = new Running(
      [probe, ..."6 bind :: 80 listen accept hello".split(" ")],
      under({ SOCKETBOX_MAP: mapOf({ 80: name }) }),
    );
    expect(await ask(server.port, "::1", "")).toBe("hello\n");
  });
});

test("a listener of IPv6 is told without flow, and without a scope where there is none", async () => {
  const script = `import socket
s = socket.socket(socket.AF_INET6); s.bind(("::1", 80, 7, 9)); print(s.getsockname())`;
  expect(await linesOf(["python3", "-c", script], fresh().variables)).toEqual(["('::1', 80, 0, 0)"]);
});

describe("several listeners", () => {
  test("the wildcards of both families on one port each get their own family's clients", async () => {
    const { path, variables } = fresh();
    await using server = await startSender(sender, path);
    const script = `import select, socket
four = socket.create_server(("0.0.0.0", 80))
six = socket.create_server(("::", 80), family=socket.AF_INET6)
while True:
    for ready in select.select([four, six], [], [])[0]:
        ready.setblocking(False)
        try: connection, peer = ready.accept()
        except BlockingIOError: continue
        connection.send(f"{'four' if ready is four else 'six'} {peer[0]}".encode()); connection.close()`;
    await using _running = new Running(["python3", "-c", script], under(variables));
    expect(await ask(server.port, "127.0.0.1", "")).toBe("four 127.0.0.1");
    expect(await ask(server.port, "::1", "")).toBe("six ::1");
  });

  test("a second bind of one address is EADDRINUSE, with SO_REUSEPORT both share the queue", async () => {
    const { variables } = fresh();
    expect(await run("4 bind 0.0.0.0 80 listen keep 4 bind 0.0.0.0 80", variables)).toEqual([
      "bind ok",
      "listen ok",
      "bind EADDRINUSE",
    ]);
    expect(await run("4 bind 127.0.0.1 80 keep 4 bind 0.0.0.0 80", variables)).toEqual([
      "bind ok",
      "bind EADDRINUSE",
    ]);
    expect(await run("6 bind :: 80 keep 4 bind 0.0.0.0 80", variables)).toEqual([
      "bind ok",
      "bind EADDRINUSE",
    ]);
    expect(await run("4 reuseport bind 0.0.0.0 80 keep 4 reuseport bind 0.0.0.0 80 name", variables)).toEqual(
      ["bind ok", "bind ok", "name 0.0.0.0 80 length 16"],
    );
    expect(await run("4 bind 0.0.0.0 80 keep 4 bind 0.0.0.0 81 name", variables)).toEqual([
      "bind ok",
      "bind ok",
      "name 0.0.0.0 81 length 16",
    ]);
  });

  test("processes that bind one address on their own with SO_REUSEPORT take numbered paths", async () => {
    const { path, variables } = fresh();
    const words = "4 reuseport bind 0.0.0.0 80 listen wait accept hello";
    await using first = await start(words, variables);
    await using second = await start(words, variables);
    await using server = await startSender(sender, path, `${path}.1`);
    first.continue();
    second.continue();
    expect(await Promise.all([ask(server.port, "::1", ""), ask(server.port, "::1", "")])).toEqual([
      "hello\n",
      "hello\n",
    ]);
    await Promise.all([first.child.exited, second.child.exited]);
    expect([existsSync(path), existsSync(`${path}.1`)]).toEqual([false, false]);
  });

  test("threads that bind one address at the same moment with SO_REUSEPORT share a path", async () => {
    for (let round = 0; round < 30; round++) {
      const { path, variables } = fresh();
      await using running = new Running([guest, "together", "80"], under(variables));
      expect(await running.line()).toBe("ready");
      expect([existsSync(path), existsSync(`${path}.1`)]).toEqual([true, false]);
    }
  });

  test("an inherited receiver at the path is adopted, and left where it is", async () => {
    const { path, variables } = fresh();
    const script = `import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[2])
os.set_inheritable(s.fileno(), True)
os.execv(sys.argv[1], sys.argv[1:2] + sys.argv[3:])`;
    await using server = await startSender(sender, path);
    const words = "4 bind 0.0.0.0 80 listen name accept hello close exit".split(" ");
    await using running = new Running(["python3", "-c", script, probe, path, ...words], under(variables));
    expect(await ask(server.port, "127.0.0.1", "")).toBe("hello\n");
    expect([await running.line(), await running.line(), await running.line()]).toEqual([
      "bind ok",
      "listen ok",
      "name 0.0.0.0 80 length 16",
    ]);
    await running.child.exited;
    expect(existsSync(path)).toBe(true);
  });

  test("what was passed on to a listener stays there when a child closes its copy", async () => {
    const { path, variables } = fresh();
    for (const child of [
      "os.fork() or (six.close(), os._exit(0))",
      "subprocess.run(['true'], close_fds=True)",
    ]) {
      const script = `import os, select, socket, subprocess, time
six = socket.socket(socket.AF_INET6) # a lower number than the one at the path: a child closes it first
four = socket.create_server(("0.0.0.0", 80))
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); six.bind(("::", 80)); six.listen()
four.setblocking(False); six.setblocking(False)
select.select([four], [], [])
while not select.select([six], [], [], 0.05)[0]:
    try: four.accept()
    except BlockingIOError: pass
${child}
time.sleep(0.2)
six.accept()[0].send(b"six")`;
      await using server = await startSender(sender, path);
      await using _running = new Running(["python3", "-c", script], under(variables), { stderr: "inherit" });
      expect(await ask(server.port, "::1", "")).toBe("six");
    }
  });

  test("a daemon that closes all it did not open, before it binds, adopts the receiver all the same", async () => {
    const closings = [
      "[ctypes.CDLL(None).close(fd) for fd in range(3, 1024)]",
      "os.closerange(3, 1024)",
      "if 'again' not in sys.argv: os.closerange(3, 1024); os.execvp('python3', sys.orig_argv + ['again'])",
      "ctypes.CDLL(None).closefrom(3)",
      "[os.dup2(0, fd) for fd in range(3, 1024)]; os.closerange(3, 1024)",
    ];
    for (const closing of closings) {
      const { path, variables } = fresh();
      const daemon = `import ctypes, os, socket, sys
before = os.stat(sys.argv[1]).st_ino
${closing}
s = socket.create_server(("0.0.0.0", 80)); print(os.stat(sys.argv[1]).st_ino == before)`;
      const manager = `import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
os.set_inheritable(s.fileno(), True)
os.execvp("python3", ["python3", "-c", sys.argv[2], sys.argv[1]])`;
      const argv = ["python3", "-c", manager, path, daemon];
      expect([closing, ...(await linesOf(argv, variables))]).toEqual([closing, "True"]);
    }
  });

  testWith(gcc, root)("two inherited receivers of one name are not told apart by guessing", async () => {
    const { path, variables } = fresh();
    const script = `import os, socket, sys
for _ in range(2):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[2]); os.set_inheritable(s.detach(), True)
    if _ == 0: os.unlink(sys.argv[2])
os.chmod(sys.argv[2], 0o666); os.setgroups([]); os.setuid(65534)
os.execv(sys.argv[1], sys.argv[1:2] + sys.argv[3:])`;
    const words = ["4", "bind", "0.0.0.0", "80"];
    expect(await linesOf(["python3", "-c", script, probe, path, ...words], variables)).toEqual([
      "bind EADDRINUSE",
    ]);
  });

  test("shutdown of an adopted one wakes every thread in accept", async () => {
    const { path, variables } = fresh();
    const threads = `import socket, threading, time
s = socket.create_server(("0.0.0.0", 80))
told = []
def accept():
    try: s.accept()
    except OSError as error: told.append(error.errno)
threads = [threading.Thread(target=accept, daemon=True) for _ in range(4)]
for thread in threads: thread.start()
time.sleep(0.3)
s.shutdown(socket.SHUT_RD)
for thread in threads: thread.join(5)
print(told)`;
    const script = `import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
os.set_inheritable(s.fileno(), True)
os.execvp("python3", ["python3", "-c", sys.argv[2]])`;
    expect(await linesOf(["python3", "-c", script, path, threads], variables)).toEqual([
      "[22, 22, 22, 22]", // EINVAL
    ]);
  });

  test("what was passed on to a listener that did not accept it waits at an adopted receiver again", async () => {
    const { path, variables } = fresh();
    const listeners = `import select, socket, time
four = socket.create_server(("0.0.0.0", 80))
six = socket.create_server(("::", 80), family=socket.AF_INET6)`;
    const passes = `${listeners}
four.setblocking(False)
select.select([four], [], [])
end = time.time() + 0.5
while time.time() < end:
    select.select([four], [], [], 0.05)
    try: four.accept(); raise SystemExit(9)
    except BlockingIOError: pass
`;
    const serves = `${listeners}
four.setblocking(False)
while True:
    if six in select.select([four, six], [], [])[0]: six.accept()[0].send(b"second")
    try: four.accept()
    except BlockingIOError: pass`;
    const holder = `import socket, subprocess, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
run = lambda text: subprocess.run([sys.executable, "-c", text], pass_fds=[s.fileno()], check=True)
run(sys.argv[2]); time.sleep(0.3); run(sys.argv[3])`;
    await using server = await startSender(sender, path);
    const argv = ["python3", "-c", holder, path, passes, serves];
    await using _running = new Running(argv, under(variables), { stderr: "inherit" });
    await until("it can be reached", () => existsSync(path));
    // More than the queue at the path takes by default: what is given back must find room there all the same.
    const clients = Array.from({ length: 30 }, () => ask(server.port, "::1", ""));
    expect(new Set(await Promise.all(clients))).toEqual(new Set(["second"]));
  });

  test("a denied port is refused with the error of the map, an unmapped one too", async () => {
    const variables = { SOCKETBOX_MAP: "* 80 80 d 98\n* 81 81 d 13\n" };
    expect(await run("4 bind 0.0.0.0 80", variables)).toEqual(["bind EADDRINUSE"]);
    expect(await run("4 bind 0.0.0.0 81", variables)).toEqual(["bind EACCES"]);
    expect(await run("4 bind 0.0.0.0 82", variables)).toEqual(["bind EACCES"]);
    expect(await run("udp4 bind 127.0.0.1 0", variables)).toEqual(["bind ok"]);
  });

  test("port 0 gets an invented port, in the name and in the path", async () => {
    const { path } = fresh();
    const lines = await run("4 bind 127.0.0.1 0 name", { SOCKETBOX_MAP: `* 0 0 r ${path}-{port}\n` });
    expect(Number(/name 127\.0\.0\.1 (\d+)/.exec(lines[1] ?? "")?.[1])).toBeGreaterThan(49151);
  });
});

describe("families", () => {
  test("an IPv4 address stands for an IPv6 client of an IPv4 program, and the log says so", async () => {
    const { path, variables } = fresh();
    const log = join(folder, `log${Bun.nanoseconds()}`);
    await using server = await startSender(sender, path);
    const words = "4 bind 0.0.0.0 80 listen accept peer local hello accept peer local hello";
    await using running = new Running(
      [probe, ...words.split(" ")],
      under({ ...variables, SOCKETBOX_LOG: log, SOCKETBOX_STAND_IN: "198.18.0.0/15" }),
    );
    expect(await ask(server.port, "::1", "", "hello")).toBe("hello\n");
    expect(await ask(server.port, "127.0.0.1", "")).toBe("hello\n");
    await running.line();
    await running.line();
    const first = [await running.line(), await running.line(), await running.line(), await running.line()];
    const stand = /^accept (198\.1[89]\.\d+\.\d+) (\d+) length 16$/.exec(first[0] ?? "");
    expect(first.slice(1, 3)).toEqual([
      `peer ${stand?.[1]} ${stand?.[2]} length 16`,
      expect.stringMatching(/^local 198\.1[89]\.[0-9.]+ \d+ length 16$/),
    ]);
    expect(await running.line()).toMatch(/^accept 127\.0\.0\.1 \d+ length 16$/);
    expect(await running.line()).toMatch(/^peer 127\.0\.0\.1 \d+ length 16$/);
    expect(readFileSync(log, "utf8")).toBe(
      `socketbox-preload: ${stand?.[1]} port ${stand?.[2]} stands for [::1]\n`,
    );
  });

  test("an IPv4 client that has already closed its side is still an IPv4 client", async () => {
    const { path, variables } = fresh();
    await using server = await startSender(sender, path);
    await using running = await start("4 bind 0.0.0.0 80 listen wait accept peer", variables);
    Bun.spawnSync([
      "python3",
      "-c",
      `import socket,time
s = socket.create_connection(("127.0.0.1", ${server.port})); s.shutdown(socket.SHUT_WR); time.sleep(0.2)`,
    ]);
    running.continue();
    expect(await running.line()).toMatch(/^accept 127\.0\.0\.1 \d+ length 16$/);
    expect(await running.line()).toMatch(/^peer 127\.0\.0\.1 \d+ length 16$/);
  });

  test("a stand-in address goes with copies of its connection, and not with the number", async () => {
    const { path, variables } = fresh();
    await using server = await startSender(sender, path);
    const script = `import ctypes, fcntl, os, socket
s = socket.create_server(("0.0.0.0", 80))
client = socket.create_connection(("::1", ${server.port}))
taken = s.accept()[0]; number = taken.detach()
copies = [os.dup(number), os.dup2(number, 50), os.dup2(number, 51, inheritable=False), fcntl.fcntl(number, fcntl.F_DUPFD, 52)]
print({socket.socket(fileno=copy).getpeername()[0].startswith("2") for copy in copies})
CLOSE_RANGE_UNSHARE = 2
ctypes.CDLL(None).close_range(number, number, CLOSE_RANGE_UNSHARE)
again = socket.create_connection(("::1", ${server.port}))
print(again.fileno() == number, again.getpeername()[0])`;
    expect(await linesOf(["python3", "-c", script], variables)).toEqual(["{True}", "True ::1"]);
  });

  test("a client that is told by a stand-in address is not written to the client of an inetd", async () => {
    const { path, variables } = fresh();
    await using server = await startSender(sender, path);
    const daemon = `import socket
s = socket.create_server(("0.0.0.0", 80)); s.accept()[0].send(b"hello")`;
    const inetd = `import socket, subprocess, sys
ours, theirs = socket.socketpair()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stderr=theirs); theirs.close()
child.wait(); print(ours.recv(999))`;
    await using running = new Running(["python3", "-c", inetd, daemon], under(variables));
    expect(await ask(server.port, "::1", "")).toBe("hello");
    expect(await running.line()).toBe("b''");
  });

  test("an AF_INET connection is a mapped address to a program of IPv6", async () => {
    const { path, variables } = fresh();
    await using running = await start("6 bind :: 80 listen wait accept peer local", variables);
    Bun.spawnSync([
      "python3",
      "-c",
      `import socket
l = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(l.getsockname()); a = l.accept()[0]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect("${path}")
socket.send_fds(s, [b"\\0"], [a.fileno()])
s.close(); a.close(); import time; time.sleep(0.1)`,
    ]);
    running.continue();
    for (const word of ["accept", "peer", "local"])
      expect(await running.line()).toMatch(new RegExp(`^${word} ::ffff:127\\.0\\.0\\.1 \\d+ length 28$`));
  });
});

describe("the library", () => {
  test("answers calls that come before its own constructor", async () => {
    const source = join(folder, "early.c");
    const early = join(folder, "early.so");
    writeFileSync(
      source,
      `#include <stdio.h>
#include <netinet/in.h>
#include <sys/socket.h>
__attribute__((constructor)) static void first(void) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
    printf("bind %d\\n", bind(socket(AF_INET, SOCK_STREAM, 0), (void *)&in, sizeof in));
}`,
    );
    expect(Bun.spawnSync(["gcc", "-shared", "-fPIC", "-o", early, source]).exitCode).toBe(0);
    const { path, variables } = fresh();
    // The last library of the list is initialised first.
    const env = { ...under(variables), LD_PRELOAD: `${library}:${early}` };
    const child = Bun.spawnSync([probe, "fd", "3", "name"], { env });
    expect(child.stdout.toString().split("\n").slice(0, 2)).toEqual(["bind 0", "name 0.0.0.0 80 length 16"]);
    expect(existsSync(path)).toBe(false);
  });

  test("answers an allocator that reads a file while the library finds its own functions", async () => {
    compile("allocator", folder, "-shared", "-fPIC", "-fno-builtin");
    const env = { ...under(fresh().variables), LD_PRELOAD: `${library}:${join(folder, "allocator")}` };
    const child = Bun.spawnSync([probe, "4", "bind", "0.0.0.0", "80", "name"], { env, timeout: 20_000 });
    expect(child.stdout.toString()).toBe("bind ok\nname 0.0.0.0 80 length 16\n");
  });

  test("is in the way of a module that asks for libc's own functions, and of nothing else of it", async () => {
    mkdirSync(join(folder, "modules"));
    compile("module", join(folder, "modules"), "-shared", "-fPIC");
    const { path, variables } = fresh();
    await using running = new Running([guest, "deep", "80"], under(variables));
    expect([await running.line(), await running.line()]).toEqual(["listen 0", "ready"]);
    expect(existsSync(path)).toBe(true);
  });

  test("loses no descriptor to a thread that is cancelled, and accept alone is where that happens", async () => {
    const { path, variables } = fresh();
    await using server = await startSender(sender, path);
    await using running = new Running([guest, "cancelled", "80", `${server.port}`], under(variables));
    expect(await running.line()).toBe("cancelled after step 3, 0 descriptors more");
  });

  test("goes on when a signal handler jumps out of accept", async () => {
    const { variables } = fresh();
    await using running = new Running([guest, "jump", "80"], under(variables));
    expect(await running.line()).toBe("accept: EAGAIN");
  });

  testWith(
    gcc,
    root,
    program("unshare"),
  )("finds inherited listeners without /proc, too", async () => {
    const { variables } = fresh();
    const script = 'mount -t tmpfs none /proc && exec "$0" "$@"';
    const python = `import os, socket, sys
s = socket.create_server(("0.0.0.0", 80)); os.dup2(s.fileno(), 9)
os.execve(sys.argv[1], ["probe", "fd", "9", "name"], {})`;
    const hidden = ["unshare", "-m", "sh", "-c", script, "python3", "-c", python, probe];
    expect(await linesOf(hidden, variables)).toEqual(["name 0.0.0.0 80 length 16"]);
  });

  test("follows into an empty environment, unless SOCKETBOX_FOLLOW is 0", async () => {
    const { variables } = fresh();
    const words = "4 bind 0.0.0.0 80 listen exec fd 9 name close 4 bind 0.0.0.0 80 name";
    expect((await run(words, variables)).slice(2)).toEqual([
      "name 0.0.0.0 80 length 16",
      "close ok",
      "bind ok",
      "name 0.0.0.0 80 length 16",
    ]);
    expect((await run(words, { ...variables, SOCKETBOX_FOLLOW: "0" }))[2]).toMatch(/^name family 1 /);
  });

  const ways = [
    ...[
      "execve",
      "execv",
      "execvp",
      "execvpe",
      "execl",
      "execlp",
      "execle",
      "execveat",
      "fexecve",
      "syscall",
    ],
    ...["posix_spawn", "posix_spawnp", "vfork", "system", "popen"],
  ];
  for (const way of ways) {
    test(`and what it made of a descriptor survive ${way} with an empty environment`, async () => {
      const { path, variables } = fresh();
      const lines = await linesOf([executes, way], variables);
      expect(lines.filter((line) => line !== "PWD").sort()).toEqual([
        "LD_PRELOAD", // (a shell adds PWD)
        "SOCKETBOX_MAP",
        "listener 0, family 2, port 80",
      ]);
      expect(existsSync(path)).toBe(false); // gone with the last process, whichever that was
    });
  }

  testWith(gcc, root)("and what it made of a descriptor survive a change of user, too", async () => {
    const { variables } = fresh();
    expect((await linesOf([executes, "execve", "65534"], variables))[0]).toBe(
      "listener 0, family 2, port 80",
    );
  });

  for (const way of ways) {
    testWith(gcc, root)(`lets ${way} run nothing where the library's file cannot be read`, () => {
      const hidden = join(folder, `hidden-${way}`);
      mkdirSync(hidden, { mode: 0o700 });
      const copy = join(hidden, "preload.so");
      copyFileSync(library, copy);
      const variables = { ...under(fresh().variables), LD_PRELOAD: copy };
      const { stdout, stderr } = Bun.spawnSync([executes, way, "65534"], { env: variables });
      expect(stdout.toString()).not.toContain("listener");
      if (!["posix_spawn", "posix_spawnp", "vfork"].includes(way))
        expect(stdout.toString()).toBe(`${way}: Can not access a needed shared library\n`);
      const shell = way === "system" || way === "popen";
      const program = way === "fexecve" ? "a program" : shell ? "/bin/sh" : "/proc/self/exe";
      expect(stderr.toString()).toBe(
        `socketbox-preload: ${program} is not executed: it would run without ${copy}, which cannot be read in this root by this user\n`,
      );
    });
  }

  test("adds no system call to those of a program that has no listener of ours", async () => {
    const quiet = compile("quiet", folder);
    const port = String(await freePort());
    const native = Bun.spawnSync([quiet, port], { env: {} });
    expect(native.exitCode).toBe(0);
    const calls = native.stdout.toString().trimEnd().split("\n");
    expect(calls.length).toBeGreaterThan(25);
    expect(await linesOf([quiet, port], { SKBOX_DIRECTORY_ROOT2: folder })).toEqual(calls);
    expect(await linesOf([quiet, port], { SOCKETBOX_MAP: mapOf({ 80: `${folder}/none` }) })).toEqual(calls);
  });

  test("leaves no temporary names behind", () => {
    expect(readdirSync(folder).filter((name) => name.startsWith(".socketbox"))).toEqual([]);
  });
});
