/** Every address and variable of the original's preload library, through the library itself. */
import { describe, expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { program, testWith } from "../kit/require.ts";
import { ask, askPath, compile, linesOf, Running, scratchFolder, startSender, under } from "./harness.ts";

const gcc = program("gcc");
const test = testWith(gcc, program("python3"));
const folder = scratchFolder();
const probe = gcc.met ? compile("probe", folder) : "";
const sender = gcc.met ? compile("sender", folder) : "";

/** The words of the probe, split at spaces; the lines it printed. */
const run = (words: string, variables: Record<string, string>) =>
  linesOf([probe, ...words.split(" ")], variables);

function rootWith(...folders: string[]): string {
  const root = join(folder, `root-${Bun.nanoseconds()}`);
  for (const name of ["", ...folders]) mkdirSync(join(root, name));
  return root;
}

/** A directory file with one path as record number index. */
function directoryFile(root: string, name: string, index: number, path: string): void {
  const file = Buffer.alloc(128 * index + 108);
  file.write(path, 128 * index);
  writeFileSync(join(root, name), file);
}

const ipv4 = { SKBOX_PORT_FILTER_IPV4: "1024" };
const wildcards = { SKBOX_PORT_FILTER_IPV6_WILDCARD: "1024", SKBOX_PORT_FILTER_IPV4_WILDCARD: "1024" };

describe("addresses", () => {
  const rows: [address: string, path: string, kind: "receiver" | "stream"][] = [
    ["fe8f::2:1:2", "00001/00002_00080", "receiver"],
    ["fe8f::3:1:2", "00001/00002_00080", "stream"],
    ["127.180.1.2", "X4001/00002_00080", "receiver"],
    ["127.181.1.2", "X4001/00002_00080", "stream"],
    ["::", "X0000/00000_00080", "receiver"],
    ["0.0.0.0", "X0004/00000_00080", "receiver"],
  ];
  for (const [address, path, kind] of rows) {
    test(`${address} port 80 is a ${kind} at ROOT2/${path}, and says it is bound to ${address}`, async () => {
      const root = rootWith(path.slice(0, 5));
      const family = address.includes(":") ? "6" : "4";
      await using running = new Running(
        [probe, ...`${family} bind ${address} 80 listen name wait accept hello wait`.split(" ")],
        under({ SKBOX_DIRECTORY_ROOT2: root, ...ipv4, ...wildcards }),
      );
      expect([await running.line(), await running.line(), await running.line()]).toEqual([
        "bind ok",
        "listen ok",
        `name ${address} 80 length ${family === "4" ? 16 : 28}`,
      ]);
      expect(await running.line()).toBe("waiting");
      const file = statSync(join(root, path));
      expect([file.isSocket(), file.mode & 0o7777]).toEqual([true, 0o660]);
      running.continue();
      if (kind === "receiver") {
        await using server = await startSender(sender, join(root, path));
        expect(await ask(server.port, family === "4" ? "127.0.0.1" : "::1", "", "hello\n")).toBe("hello\n");
        expect(await running.line()).toMatch(
          family === "4" ? /^accept 127\.0\.0\.1 \d+ length 16$/ : /^accept ::1 \d+ length 28$/,
        );
      } else {
        expect(await askPath(join(root, path), "hello\n")).toBe("hello\n");
        expect(await running.line()).toBe("accept family 1 length 2");
      }
    });
  }

  test("fe8f::0:Y:Z and fe8f::1:Y:Z read their path from the directory file", async () => {
    const root = rootWith();
    directoryFile(root, "skbox_dir_00258", 3, join(root, "r_@SB_"));
    const variables = { SKBOX_DIRECTORY_ROOT: root };
    expect(await run("6 bind fe8f::0:102:3 80 name listen", variables)).toEqual([
      "bind ok",
      "name fe8f::102:3 80 length 28",
      "listen ok",
    ]);
    expect(existsSync(join(root, "r00080"))).toBe(false);
    await using running = new Running(
      [probe, ..."6 bind fe8f::1:102:3 443 listen wait".split(" ")],
      under(variables),
    );
    for (const line of ["bind ok", "listen ok", "waiting"]) expect(await running.line()).toBe(line);
    expect(statSync(join(root, "r00443")).isSocket()).toBe(true);
    expect(await run("6 bind fe8f::0:102:4 80", variables)).toEqual(["bind ERANGE"]);
    expect(await run("6 bind fe8f::0:103:0 80", variables)).toEqual(["bind ENOENT"]);
  });

  test("fe8f:1:S:S:i:i:i:i binds to the link-local address with that scope", async () => {
    const text = readFileSync("/proc/net/if_inet6", "utf8")
      .split("\n")
      .find((line) => line.startsWith("fe80"));
    const words = text?.split(/\s+/) ?? [];
    const groups = words[0]?.slice(16).match(/.{4}/g)?.join(":");
    const scope = Number.parseInt(words[1] ?? "0", 16);
    if (!groups) {
      // No interface has a link-local address here: then the kernel refuses the true one, and not fe8f.
      expect(await run("6 bind fe8f:1:0:1:0:0:0:1 8080", {})).toEqual(["bind EADDRNOTAVAIL"]);
      return;
    }
    const lines = await run(`6 bind fe8f:1:0:${scope.toString(16)}:${groups} 0 name`, {});
    expect(lines[0]).toBe("bind ok");
    expect(lines[1]).toMatch(new RegExp(`^name fe80:.* length 28 scope ${scope}$`));
  });

  test("other addresses, other ports and UDP are bound for real", async () => {
    const variables = { SKBOX_DIRECTORY_ROOT2: rootWith(), ...ipv4, ...wildcards };
    expect((await run("4 bind 127.0.0.1 0 name listen", variables))[2]).toBe("listen ok");
    expect(await run("4 bind 127.180.0.1 4000 type", variables)).toEqual(["bind ok", "type 2"]);
    expect(await run("udp4 bind 127.180.0.1 80 type", variables)).toEqual(["bind ok", "type 2"]);
  });

  test("a mapping without its directory is an error of bind, never a real bind", async () => {
    for (const words of [
      "6 bind fe8f::2:1:1 80",
      "4 bind 127.180.0.1 80",
      "4 bind 0.0.0.0 80",
      "6 bind :: 80",
    ])
      expect(await run(words, { ...ipv4, ...wildcards })).toEqual(["bind EADDRNOTAVAIL"]);
  });

  test("a directory that is not there is an error of bind", async () => {
    expect(await run("6 bind fe8f::2:1:1 80", { SKBOX_DIRECTORY_ROOT2: rootWith() })).toEqual([
      "bind ENOENT",
    ]);
  });
});

describe("variables", () => {
  test("a filter that cannot be read ends the program with one line that names it", () => {
    const env = under({ SKBOX_PORT_FILTER_IPV4: "http" });
    const { exitCode, stderr, stdout } = Bun.spawnSync([probe, "4", "name"], { env });
    expect(exitCode).toBe(2);
    expect(stdout.toString()).toBe("");
    expect(stderr.toString()).toMatch(/^socketbox-preload: SKBOX_PORT_FILTER_IPV4=http: expected [^\n]+\n$/);
  });

  test("SKBOX_CLEAR_SCOPE_ID takes addresses with a scope, which are left alone otherwise", async () => {
    const root = rootWith("00001");
    expect(await run("6 scope fe8f::2:1:1 80 1", { SKBOX_DIRECTORY_ROOT2: root })).not.toEqual(["scope ok"]);
    expect(
      await run("6 scope fe8f::2:1:1 80 1", { SKBOX_DIRECTORY_ROOT2: root, SKBOX_CLEAR_SCOPE_ID: "1" }),
    ).toEqual(["scope ok"]);
  });

  test("SKBOX_BLOCK_LISTEN_EMPTY_ADDR: listen without bind is EINVAL unless it is 0", async () => {
    expect(await run("4 listen", {})).toEqual(["listen EINVAL"]);
    expect(await run("4 listen", { SKBOX_BLOCK_LISTEN_EMPTY_ADDR: "0" })).toEqual(["listen ok"]);
  });

  test("SKBOX_GETPEERNAME_PROTECTION: which buffers are zeroed before they are filled", async () => {
    const words = (room: number) => `4 bind 127.0.0.1 0 junk room ${room} name`;
    const left = async (room: number, level?: string) => {
      const lines = await run(words(room), level ? { SKBOX_GETPEERNAME_PROTECTION: level } : {});
      return Number(/left (\d+)$/.exec(lines[1] ?? "")?.[1]);
    };
    expect(await left(64)).toBe(64);
    expect(await left(64, "2")).toBe(64);
    expect(await left(64, "1")).toBe(112);
    expect(await left(28, "1")).toBe(100);
    expect(await left(28, "0")).toBe(112);
  });

  test("SKBOX_STEALTH_MODE: a Unix peer is reported as [::1]:0", async () => {
    const root = rootWith("00001");
    const accepted = async (stealth: string) => {
      await using running = new Running(
        [probe, ..."6 bind fe8f::3:1:1 80 listen wait accept wait".split(" ")],
        under({ SKBOX_DIRECTORY_ROOT2: root, SKBOX_STEALTH_MODE: stealth }),
      );
      for (let i = 0; i < 3; i++) await running.line();
      running.continue();
      const client = await Bun.connect({ unix: join(root, "00001/00001_00080"), socket: { data() {} } });
      const line = await running.line();
      client.end();
      return line;
    };
    expect(await accepted("0")).toBe("accept family 1 length 2");
    expect(await accepted("1")).toBe("accept ::1 0 length 28");
  });

  test("SKBOX_STRICT_STREAM_MODE: what is no connection is dropped as ECONNABORTED", async () => {
    const root = rootWith("00001");
    const path = join(root, "00001/00001_00080");
    const script = `import socket,sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
socket.send_fds(s, [b"\\0"], [s.fileno()])`;
    const accepted = async (mode: string | undefined) => {
      const variables = { SKBOX_DIRECTORY_ROOT2: root, ...(mode && { SKBOX_STRICT_STREAM_MODE: mode }) };
      await using running = new Running(
        [probe, ..."6 bind fe8f::2:1:1 80 listen wait accept".split(" ")],
        under(variables),
      );
      for (let i = 0; i < 3; i++) await running.line();
      Bun.spawnSync(["python3", "-c", script, path]);
      running.continue();
      return await running.line();
    };
    expect(await accepted(undefined)).toBe("accept ECONNABORTED");
    expect(await accepted("1")).toBe("accept ECONNABORTED");
    expect(await accepted("0")).toMatch(/^accept family 1 /);
  });

  test("SKBOX_ACCEPT_STREAM: accept receives on a connected stream or seqpacket socket", async () => {
    const script = `import os,socket,subprocess,sys
kind = getattr(socket, sys.argv[2])
ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
listener = socket.create_server(("127.0.0.1", 0)); client = socket.create_connection(listener.getsockname())
connection, _ = listener.accept()
socket.send_fds(ours, [b"\\0"], [connection.fileno()]); ours.close()
sys.stdout.write(subprocess.run([sys.argv[1], "fd", str(theirs.fileno()), "accept", "accept"],
    pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True).stdout)`;
    const accepted = (kind: string, value: string) =>
      linesOf(["python3", "-c", script, probe, kind], { SKBOX_ACCEPT_STREAM: value });
    for (const kind of ["SOCK_STREAM", "SOCK_SEQPACKET"]) {
      const lines = await accepted(kind, "1");
      expect(lines[0]).toMatch(/^accept 127\.0\.0\.1 \d+ length 16$/);
      expect(lines[1]).toBe("accept EINVAL");
      expect((await accepted(kind, "0"))[0]).toBe("accept EINVAL");
    }
  });

  test("SKBOX_SCHED_YIELD: connections are served all the same", async () => {
    const root = rootWith("00001");
    await using server = await startSender(sender, join(root, "00001/00001_00080"));
    await using _running = new Running(
      [probe, ..."6 bind fe8f::2:1:1 80 listen accept hello accept hello wait".split(" ")],
      under({ SKBOX_DIRECTORY_ROOT2: root, SKBOX_SCHED_YIELD: "1" }),
    );
    expect(await ask(server.port, "::1", "", "hello")).toBe("hello\n");
    expect(await ask(server.port, "::1", "", "hello")).toBe("hello\n");
  });

  test("SKBOX_ENABLE_CONNECT: 1 reaches stream listeners, 2 receivers, b those of IPv4", async () => {
    const root = rootWith("00001", "X4001");
    const base = { SKBOX_DIRECTORY_ROOT2: root, ...ipv4 };
    const rows = [
      ["6", "fe8f::3:1:1", "1"],
      ["6", "fe8f::2:1:1", "2"],
      ["4", "127.181.1.1", "b1"],
      ["4", "127.180.1.1", "b2"],
    ] as const;
    for (const [family, address, value] of rows) {
      await using listening = new Running(
        [probe, ...`${family} bind ${address} 80 listen accept hello`.split(" ")],
        under(base),
      );
      for (let i = 0; i < 2; i++) await listening.line();
      expect(await run(`${family} connect ${address} 80 type`, base)).not.toContain("type 1");
      expect(
        await run(`${family} connect ${address} 80 type`, { ...base, SKBOX_ENABLE_CONNECT: value }),
      ).toEqual(["connect ok", "type 1"]);
      expect(await listening.line()).toMatch(/^accept family 1 /);
    }
    expect(await run("6 connect fe8f::3:1:9 80", { ...base, SKBOX_ENABLE_CONNECT: "1" })).toEqual([
      "connect ECONNREFUSED",
    ]);
  });

  test("accept receives on a Unix datagram socket that another program bound and passed on", async () => {
    const path = join(rootWith(), "inherited");
    const script = `import os,socket,sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[2])
os.set_inheritable(s.fileno(), True)
os.execv(sys.argv[1], [sys.argv[1], "fd", str(s.fileno()), "accept", "hello"])`;
    await using server = await startSender(sender, path);
    await using running = new Running(["python3", "-c", script, probe, path], under({}));
    expect(await ask(server.port, "::1", "")).toBe("hello\n");
    expect(await running.line()).toMatch(/^accept ::1 /);
  });
});
