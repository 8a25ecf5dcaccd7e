/** Every address and variable of the original's preload library, through the library itself. */
import { describe, expect } from "bun:test";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Namespace } from "../kit/namespace.ts";
import { root as privileged, program, testWith } from "../kit/require.ts";
import {
  ask,
  askPath,
  compile,
  library,
  linesOf,
  Running,
  scratchFolder,
  startSender,
  under,
} from "./harness.ts";

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

/** The addresses that are receivers or stream listeners, on port 80: where, below the folder of their variable. */
const rows: [address: string, path: string, kind: "receiver" | "stream"][] = [
  ["fe8f::102:3", "r_00080", "receiver"],
  ["fe8f::1:102:3", "r_00080", "stream"],
  ["fe8f::2:1:2", "00001/00002_00080", "receiver"],
  ["fe8f::3:1:2", "00001/00002_00080", "stream"],
  ["127.180.1.2", "X4001/00002_00080", "receiver"],
  ["127.181.1.2", "X4001/00002_00080", "stream"],
  ["::", "X0000/00000_00080", "receiver"],
  ["0.0.0.0", "X0004/00000_00080", "receiver"],
];

/** Folders in which each of the rows has its place; record 3 of the directory file 0x102 is theirs, too. */
function placesOf(...paths: string[]): { root: string; variables: Record<string, string> } {
  const folders = paths.filter((path) => path.includes("/")).map((path) => path.slice(0, 5));
  const root = rootWith(...new Set(folders));
  directoryFile(root, "skbox_dir_00258", 3, join(root, "r__@SB_"));
  return { root, variables: { SKBOX_DIRECTORY_ROOT: root, SKBOX_DIRECTORY_ROOT2: root } };
}

describe("addresses", () => {
  for (const [address, path, kind] of rows) {
    test(`${address} port 80 is a ${kind} at ${path}, and says it is bound to ${address}`, async () => {
      const { root, variables } = placesOf(path);
      const family = address.includes(":") ? "6" : "4";
      await using running = new Running(
        [probe, ...`${family} bind ${address} 80 listen name wait accept hello wait`.split(" ")],
        under({ ...variables, ...ipv4, ...wildcards }),
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

  test("a record past the end of the directory file is ERANGE, a file that is not there ENOENT", async () => {
    const { variables } = placesOf();
    for (const kind of ["0", "1"]) {
      expect(await run(`6 bind fe8f::${kind}:102:4 80`, variables)).toEqual(["bind ERANGE"]);
      expect(await run(`6 bind fe8f::${kind}:103:0 80`, variables)).toEqual(["bind ENOENT"]);
    }
  });

  testWith(gcc, privileged)(
    "fe8f:1:S:S:i:i:i:i is bound for real, to the link-local address with that scope",
    async () => {
      const link = "link add name local type veth peer name other";
      await using network = await Namespace.local(
        link,
        "link set local up",
        "addr add fe80::a:b:c:d/64 dev local nodad",
      );
      const scope = /^(\d+): local@/m.exec((await network.run(["ip", "link"])).out)![1]!;
      const words = (address: string) =>
        network.command(probe, ..."6 bind".split(" "), address, "8080", "name", "listen");
      expect(await linesOf(words(`fe8f:1:0:${Number(scope).toString(16)}:a:b:c:d`), {})).toEqual([
        "bind ok",
        `name fe80::a:b:c:d 8080 length 28 scope ${scope}`,
        "listen ok",
      ]);
      expect((await linesOf(words("fe8f:1:1:1:a:b:c:d"), {}))[0]).toBe("bind ENODEV"); // 0x10001 is no interface
    },
  );

  test("other addresses, other ports and UDP are bound for real", async () => {
    const variables = { SKBOX_DIRECTORY_ROOT2: rootWith(), ...ipv4, ...wildcards };
    expect((await run("4 bind 127.0.0.1 0 name listen", variables))[2]).toBe("listen ok");
    expect(await run("4 bind 127.180.0.1 4000 type", variables)).toEqual(["bind ok", "type 2"]);
    const real = process.getuid!() === 0 ? "bind ok" : "bind EACCES";
    expect(await run("udp4 bind 127.180.0.1 80 type", variables)).toEqual([real, "type 2"]);
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
  const filters = [
    ["SKBOX_PORT_FILTER_IPV6", "6", "fe8f::2:1:1", "1024"],
    ["SKBOX_PORT_FILTER_IPV4", "4", "127.180.0.1", "nothing"],
    ["SKBOX_PORT_FILTER_IPV4", "4", "127.181.0.1", "nothing"],
    ["SKBOX_PORT_FILTER_IPV6_WILDCARD", "6", "::", "nothing"],
    ["SKBOX_PORT_FILTER_IPV4_WILDCARD", "4", "0.0.0.0", "nothing"],
  ] as const;
  for (const [variable, family, address, preset] of filters) {
    test(`${variable} says which ports of ${address} are taken; ${preset} by default`, async () => {
      /** The ports for which bind looks for the folder, which is not there. */
      const taken = async (filter: string | undefined, ...ports: number[]) => {
        const base = { SKBOX_DIRECTORY_ROOT2: join(folder, "none") };
        const variables = filter === undefined ? base : { ...base, [variable]: filter };
        const lines = await Promise.all(
          ports.map((port) => run(`${family} bind ${address} ${port}`, variables)),
        );
        return ports.filter((_, index) => lines[index]![0] === "bind ENOENT");
      };
      expect(await taken(undefined, 0, 79, 80, 1023, 1024, 1025)).toEqual(
        preset === "1024" ? [79, 80, 1023] : [],
      );
      expect(await taken("70", 0, 68, 69, 70, 71)).toEqual([68, 69]);
      expect(await taken("10,20,8080", 9, 11, 18, 20, 8080, 8081)).toEqual([9, 18, 8080]);
      expect(await taken("0,0", 9, 18, 80)).toEqual([]);
    });
  }

  const unreadable: Record<string, string> = {
    SKBOX_DIRECTORY_ROOT: "/".repeat(4096),
    SKBOX_DIRECTORY_ROOT2: "/".repeat(4096),
    SKBOX_PORT_FILTER_IPV6: "1,2,65536",
    SKBOX_PORT_FILTER_IPV4: "http",
    SKBOX_PORT_FILTER_IPV6_WILDCARD: `0,0${",1".repeat(31)}`,
    SKBOX_PORT_FILTER_IPV4_WILDCARD: "",
    SKBOX_ENABLE_CONNECT: "3",
    SKBOX_STEALTH_MODE: "yes",
    SKBOX_CLEAR_SCOPE_ID: "2",
    SKBOX_GETPEERNAME_PROTECTION: "3",
    SKBOX_ACCEPT_STREAM: "on",
    SKBOX_BLOCK_LISTEN_EMPTY_ADDR: "-1",
    SKBOX_STRICT_STREAM_MODE: "01",
    SKBOX_SCHED_YIELD: " 1",
    SOCKETBOX_MAP: "80=/run/web.sock",
    SOCKETBOX_FOLLOW: "no",
    SOCKETBOX_STAND_IN: "240.0.0.0",
    SOCKETBOX_LOG: "/".repeat(4096),
  };
  for (const [variable, value] of Object.entries(unreadable)) {
    test(`${variable} that cannot be read ends the program with one line that names it`, () => {
      const { exitCode, stderr, stdout } = Bun.spawnSync([probe, "4", "name"], {
        env: under({ [variable]: value }),
      });
      expect(exitCode).toBe(2);
      expect(stdout.toString()).toBe("");
      const shown = `${variable}=${value}`.slice(0, 200);
      expect(stderr.toString()).toStartWith(`socketbox-preload: ${shown}: expected `);
      expect(stderr.toString()).toMatch(/^[^\n]+\n$/);
    });
  }

  test("SKBOX_CLEAR_SCOPE_ID takes addresses with a scope, which are left alone otherwise", async () => {
    const root = rootWith("00001");
    expect(await run("6 scope fe8f::2:1:1 80 1", { SKBOX_DIRECTORY_ROOT2: root })).not.toEqual(["scope ok"]);
    expect(
      await run("6 scope fe8f::2:1:1 80 1", { SKBOX_DIRECTORY_ROOT2: root, SKBOX_CLEAR_SCOPE_ID: "1" }),
    ).toEqual(["scope ok"]);
  });

  test("SKBOX_BLOCK_LISTEN_EMPTY_ADDR: listen without bind is EINVAL unless it is 0", async () => {
    expect(await run("4 listen", {})).toEqual(["listen EINVAL"]);
    expect(await run("4 listen", { SKBOX_BLOCK_LISTEN_EMPTY_ADDR: "1" })).toEqual(["listen EINVAL"]);
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

  test("SKBOX_GETPEERNAME_PROTECTION is for accept and getpeername, too", async () => {
    const root = rootWith("00001");
    await using server = await startSender(sender, join(root, "00001/00001_00080"));
    const left = async (room: number, level?: string) => {
      const variables = {
        SKBOX_DIRECTORY_ROOT2: root,
        ...(level && { SKBOX_GETPEERNAME_PROTECTION: level }),
      };
      const words = `6 bind fe8f::2:1:1 80 listen junk room ${room} accept peer`;
      const lines = run(words, variables);
      await ask(server.port, "::1", "");
      return (await lines)
        .slice(2)
        .map((line) => /^(accept|peer) ::1 \d+ length 28 left (\d+)$/.exec(line)?.[2]);
    };
    expect(await left(64)).toEqual(["64", "64"]);
    expect(await left(64, "1")).toEqual(["100", "100"]);
    expect(await left(64, "0")).toEqual(["100", "100"]);
  });

  test("SKBOX_STEALTH_MODE: a Unix peer is reported as [::1]:0", async () => {
    const root = rootWith("00001");
    const accepted = async (stealth?: string) => {
      await using running = new Running(
        [probe, ..."6 bind fe8f::3:1:1 80 listen wait accept wait".split(" ")],
        under({ SKBOX_DIRECTORY_ROOT2: root, ...(stealth && { SKBOX_STEALTH_MODE: stealth }) }),
      );
      for (let i = 0; i < 3; i++) await running.line();
      running.continue();
      const client = await Bun.connect({ unix: join(root, "00001/00001_00080"), socket: { data() {} } });
      const line = await running.line();
      client.end();
      return line;
    };
    expect(await accepted()).toBe("accept family 1 length 2");
    expect(await accepted("0")).toBe("accept family 1 length 2");
    expect(await accepted("1")).toBe("accept ::1 0 length 28");
  });

  test("SKBOX_STRICT_STREAM_MODE: what is no connection is dropped as ECONNABORTED", async () => {
    const root = rootWith("00001");
    const path = join(root, "00001/00001_00080");
    const script = `import socket,sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
listening = socket.create_server(("127.0.0.1", 0))
socket.send_fds(s, [b"\\0"], [s.fileno()])
socket.send_fds(s, [b"\\0"], [listening.fileno()])
try: another = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
except OSError: another = listening  # this machine has no other family
socket.send_fds(s, [b"\\0"], [another.fileno()])`;
    /** What comes of a datagram socket, a stream socket that listens, and one of another family. */
    const accepted = async (mode?: string) => {
      const variables = { SKBOX_DIRECTORY_ROOT2: root, ...(mode && { SKBOX_STRICT_STREAM_MODE: mode }) };
      await using running = new Running(
        [probe, ..."6 bind fe8f::2:1:1 80 listen wait take take take".split(" ")],
        under(variables),
      );
      for (let i = 0; i < 3; i++) await running.line();
      expect(Bun.spawnSync(["python3", "-c", script, path]).exitCode).toBe(0);
      running.continue();
      return [await running.line(), await running.line(), await running.line()];
    };
    const aborted = "take ECONNABORTED";
    expect(await accepted()).toEqual([aborted, aborted, aborted]);
    expect(await accepted("2")).toEqual([aborted, aborted, aborted]);
    expect(await accepted("1")).toEqual([aborted, "take ok", "take ok"]);
    expect(await accepted("0")).toEqual(["take ok", "take ok", "take ok"]);
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
    const accepted = (kind: string, value?: string) =>
      linesOf(["python3", "-c", script, probe, kind], value ? { SKBOX_ACCEPT_STREAM: value } : {});
    for (const kind of ["SOCK_STREAM", "SOCK_SEQPACKET"]) {
      const lines = await accepted(kind, "1");
      expect(lines[0]).toMatch(/^accept 127\.0\.0\.1 \d+ length 16$/);
      expect(lines[1]).toBe("accept EINVAL");
      expect((await accepted(kind, "0"))[0]).toBe("accept EINVAL");
      expect((await accepted(kind))[0]).toBe("accept EINVAL");
    }
  });

  test("SKBOX_SCHED_YIELD: accept yields the processor now and then, by default never", async () => {
    const source = join(folder, "yields.c");
    const yields = join(folder, "yields.so");
    writeFileSync(
      source,
      `#include <stdio.h>
static int count;
int sched_yield(void) { return ++count, 0; }
__attribute__((destructor)) static void tell(void) { printf("yields %d\\n", count); }`,
    );
    expect(Bun.spawnSync(["gcc", "-shared", "-fPIC", "-o", yields, source]).exitCode).toBe(0);
    const root = rootWith("00001");
    await using server = await startSender(sender, join(root, "00001/00001_00080"));
    for (const [value, times] of [
      [undefined, 0],
      ["0", 0],
      ["1", 2],
    ] as const) {
      const variables = { SKBOX_DIRECTORY_ROOT2: root, ...(value && { SKBOX_SCHED_YIELD: value }) };
      const words = `6 bind fe8f::2:1:1 80 listen${" accept hello close-connection".repeat(9)}`;
      const lines = run(words, { ...variables, LD_PRELOAD: `${library}:${yields}` });
      for (let i = 0; i < 9; i++) expect(await ask(server.port, "::1", "")).toBe("hello\n");
      expect((await lines).at(-1)).toBe(`yields ${times}`);
    }
  });

  const connectable = [
    ["6", "fe8f::3:1:1", ["1", "b1", "2", "b2"]],
    ["6", "fe8f::2:1:1", ["2", "b2"]],
    ["6", "fe8f::1:102:3", ["1", "b1", "2", "b2"]],
    ["6", "fe8f::102:3", ["2", "b2"]],
    ["4", "127.181.1.1", ["b1", "b2"]],
    ["4", "127.180.1.1", ["b2"]],
  ] as const;
  for (const [family, address, values] of connectable) {
    test(`SKBOX_ENABLE_CONNECT reaches ${address} with ${values.join(", ")}, by default not`, async () => {
      const { variables } = placesOf("00001/", "X4001/");
      const base = { ...variables, ...ipv4 };
      await using listening = new Running(
        [probe, ...`${family} bind ${address} 80 listen${" accept hello".repeat(values.length)}`.split(" ")],
        under(base),
      );
      for (let i = 0; i < 2; i++) await listening.line();
      for (const value of [undefined, "0", "1", "2", "b1", "b2"]) {
        const set = value ? { SKBOX_ENABLE_CONNECT: value } : {};
        const lines = await run(`${family} connect ${address} 80 type heard`, { ...base, ...set });
        if (value && (values as readonly string[]).includes(value)) {
          expect(lines).toEqual(["connect ok", "type 1", "heard hello"]);
          expect(await listening.line()).toMatch(/^accept family 1 /);
          expect(await listening.line()).toBe("hello ok");
        } else {
          expect(lines[0]).not.toBe("connect ok");
        }
      }
    });
  }

  test("SKBOX_ENABLE_CONNECT to a place where nobody listens is ECONNREFUSED", async () => {
    const { variables } = placesOf("00001/");
    const connecting = { ...variables, SKBOX_ENABLE_CONNECT: "2" };
    for (const address of ["fe8f::3:1:9", "fe8f::2:1:9"])
      expect(await run(`6 connect ${address} 80`, connecting)).toEqual(["connect ECONNREFUSED"]);
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
