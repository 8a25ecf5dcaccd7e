/** What users get: the packed tarball in an empty folder, and the compiled executable under an empty environment. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import packageFile from "../package.json" with { type: "json" };
import { hostileFolder } from "./kit/hostile.ts";
import { makeJail } from "./kit/jail.ts";
import { program, root, testWith } from "./kit/require.ts";
import { ask, freePort, must, ROOT, Running, run, scratch } from "./kit/running.ts";
import { named, relayed } from "./programs/relay/kit.ts";

const BUN = join(ROOT, ".toolchain/bin/bun");
const NAMES = Object.keys(packageFile.bin);

/** Serves one connection from the folder `cwd`, with each program started as `command` says. */
async function serveOne(
  command: (name: string) => string[],
  env: Record<string, string>,
  cwd: string,
): Promise<string> {
  using folder = scratch();
  const port = await freePort();
  const configuration = folder.file("one.toml");
  const to = `unix:${folder.file("r")}`;
  writeFileSync(
    configuration,
    `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n[[route]]\nto = "${to}"\n`,
  );
  const script = "echo $TCPREMOTEIP; cat";
  await using inetd = new Running(
    [...command("socketbox-inetd"), folder.file("r"), "/bin/sh", "-c", script],
    { env, cwd },
  );
  await inetd.until(/: ready: /);
  await using server = new Running([...command("socketbox"), "-f", configuration], { env, cwd });
  await server.until(/: ready: /);
  const answer = await ask(port, "127.0.0.1", "through the socket itself");
  expect(await server.stop()).toBe(0);
  expect(await inetd.stop()).toBe(0);
  expect(existsSync(folder.file("r"))).toBe(false);
  return answer;
}

/** Every program, a server with its Worker, and one that goes to the background, where others' code lies. */
async function expectUnharmed(program: (name: string) => string): Promise<void> {
  using hostile = hostileFolder();
  const env = { HOME: hostile.path, XDG_CONFIG_HOME: hostile.path };
  const options = { env, cwd: hostile.path };
  for (const name of NAMES) {
    const out = `${name} ${packageFile.version}\n`;
    expect(await run([program(name), "--version"], options)).toEqual({ code: 0, out });
  }
  const answer = await serveOne((name) => [program(name)], env, hostile.path);
  expect(answer).toBe("127.0.0.1\nthrough the socket itself");
  const background = ["-d", "-f", hostile.file("missing.conf"), "-p", String(await freePort())];
  expect((await run([program("socketbox"), ...background], options)).code).toBe(1);
  expect(hostile.sprung).toBe(false);
}

test("no program of bin/ runs code of the folder that it is started in", async () => {
  await expectUnharmed((name) => join(ROOT, "bin", name));
});

test("bin/ holds every program that package.json names", () => {
  expect(NAMES.filter((name) => !existsSync(join(ROOT, "bin", name)))).toEqual([]);
});

describe("the packed tarball", () => {
  const folder = scratch();
  afterAll(() => folder[Symbol.dispose]());

  beforeAll(async () => {
    await must([BUN, "pm", "pack", "--quiet", "--cwd", ROOT, "--filename", folder.file("socketbox.tgz")]);
    writeFileSync(folder.file("package.json"), `{ "dependencies": { "socketbox": "file:./socketbox.tgz" } }`);
    const { code, out } = await run([BUN, "install", "--silent"], { cwd: folder.path });
    expect(`${code} ${out}`).toBe("0 ");
  });

  test("serves from an empty folder with bun x", async () => {
    const env = { PATH: `${join(ROOT, ".toolchain/bin")}:${process.env.PATH}` };
    expect(await serveOne((name) => [BUN, "x", name], env, folder.path)).toBe(
      "127.0.0.1\nthrough the socket itself",
    );
  });

  test("finds the Bun that bun x itself is, wherever that lies", async () => {
    const env = { PATH: "/usr/bin:/bin", npm_execpath: undefined };
    const options = { cwd: folder.path, env };
    const out = `socketbox ${packageFile.version}\n`;
    expect(await run([BUN, "x", "socketbox", "--version"], options)).toEqual({ code: 0, out });
    const bare = await run(["node_modules/.bin/socketbox", "--version"], options);
    expect(bare.code).toBe(3);
    expect(bare.out).toContain("socketbox: Bun is not here; run ");
  });
});

describe("the compiled executable", () => {
  beforeAll(() => must([join(ROOT, "bin/build")]));

  test("runs no code of the folder that it is started in", async () => {
    await expectUnharmed((name) => join(ROOT, "dist", name));
  });

  test("goes by every name of package.json", async () => {
    for (const name of NAMES) {
      expect(await run([join(ROOT, "dist", name), "--version"])).toEqual({
        code: 0,
        out: `${name} ${packageFile.version}\n`,
      });
    }
  });

  test("puts the preload library where programs can load it, and only its owner can change it", async () => {
    using elsewhere = scratch();
    const script = 'import socket; print(*socket.create_server(("127.0.0.1", 80)).getsockname())';
    const command = (...words: string[]) => [join(ROOT, "dist/socketbox-preload"), ...words];
    const map = ["--map", `80=${elsewhere.file("r")}`];
    expect(await run(command(...map, "python3", "-c", script))).toEqual({ code: 0, out: "127.0.0.1 80\n" });
    const env = { HOME: elsewhere.path, XDG_CACHE_HOME: undefined, XDG_RUNTIME_DIR: undefined };
    const path = (await run(command("--print-path"), { env })).out.trim();
    expect(path).toMatch(/\/socketbox\/libsocketbox-preload-glibc-[0-9a-f]{16}\.so$/);
    expect([statSync(path).mode & 0o7777, statSync(path).uid]).toEqual([0o644, process.getuid!()]);
    expect(statSync(dirname(path)).mode & 0o022).toBe(0);
  });

  testWith(root, program("unshare"))(
    "starts where nothing may be executed in /tmp, nor written",
    async () => {
      const elsewhere = mkdtempSync("/var/tmp/sb-");
      using _ = { [Symbol.dispose]: () => rmSync(elsewhere, { recursive: true }) };
      const program = join(elsewhere, "socketbox");
      copyFileSync(join(ROOT, "dist/socketbox"), program);
      const script = 'mount -t tmpfs -o noexec,ro none /tmp && exec "$0" -p 0 -S @nobody';
      await using server = new Running(["unshare", "-m", "sh", "-c", script, program], { cwd: elsewhere });
      await server.until(/: ready: /);
      expect(await server.stop()).toBe(0);
    },
  );

  testWith(root)("-e becomes a program in a chroot, as it was started and with every variable", async () => {
    using folder = scratch();
    const jail = folder.file("jail");
    await makeJail(jail, "/usr/bin/env");
    const start = `
import os, sys
env = {b"ODD": b"a\\xff\\xc3=", b"N\\xff-x": b"1", b"A.B": b"2", b"EVEN": "\\u00e9\\ufffd".encode(), b"EMPTY": b""}
os.execve(sys.argv[1], sys.argv[1:], env)`;
    const words = [join(ROOT, "dist/socketbox"), "-p", "0", "-x", jail, "-e", "/usr/bin/env"];
    const seen = await must(["sh", "-c", '"$@" | od -An -v -tx1', "sh", "python3", "-c", start, ...words]);
    const lines = Buffer.from(seen.replace(/\s/g, ""), "hex").toString("latin1").trimEnd().split("\n").sort();
    expect(lines).toEqual([
      "A.B=2",
      "EMPTY=",
      "EVEN=\xc3\xa9\xef\xbf\xbd",
      "N\xff-x=1",
      "ODD=a\xff\xc3=",
      expect.stringMatching(/^SKBOX_LISTEN_FD=\d+$/),
    ]);
  });

  test("relays under an empty environment", async () => {
    const command = ([, ...words]: string[]) => [
      "/usr/bin/env",
      "-i",
      join(ROOT, "dist/socketbox-relay"),
      ...words,
    ];
    await using between = await relayed([], { command });
    using _target = named("through it", between.target);
    expect(await ask(between.port, "127.0.0.1")).toBe("through it");
    expect(await between.relay.stop()).toBe(0);
  });

  test("serves under an empty environment, with nothing else installed", async () => {
    using elsewhere = scratch();
    const alone = (name: string) => ["/usr/bin/env", "-i", join(ROOT, "dist", name)];
    expect(await serveOne(alone, {}, elsewhere.path)).toBe("127.0.0.1\nthrough the socket itself");
  });
});
