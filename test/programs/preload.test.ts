/** `socketbox-preload`, the command: what it refuses, what it says, and what the program is given. */
import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { PATH, program, root, testWith } from "../kit/require.ts";
import { bin, must, ROOT, Running, run, scratch } from "../kit/running.ts";

const library = join(ROOT, "zig-out/lib/libsocketbox-preload.so");
const folder = scratch();
afterAll(() => folder[Symbol.dispose]());
const gcc = program("gcc");

const preload = (...args: string[]) => run([bin("socketbox-preload"), ...args]);

async function compile(name: string, source: string, ...flags: string[]): Promise<string> {
  const path = folder.file(name);
  writeFileSync(`${path}.c`, source);
  await must(["gcc", "-o", path, `${path}.c`, ...flags]);
  return path;
}

describe("--check", () => {
  test("says of each bind what the library would do", async () => {
    const maps = ["80=/run/web.sock", "[::1]:443=@tls", "8000-8010=/run/{port}", "9=direct"];
    const questions = ["80", "[::1]:443", "192.0.2.1:8005", "9"];
    const args = [...maps.flatMap((map) => ["--map", map]), ...questions.flatMap((one) => ["--check", one])];
    expect(await preload(...args)).toEqual({
      code: 0,
      out: `0.0.0.0:80 receives connections at /run/web.sock
[::]:80 receives connections at /run/web.sock
[::1]:443 receives connections at @tls
192.0.2.1:8005 receives connections at /run/8005
0.0.0.0:9 is bound for real
[::]:9 is bound for real
`,
    });
  });

  test("exits with 1 when one would be refused", async () => {
    const args = ["-m", "80=/w", "-m", "22=deny:EADDRINUSE", "--check", "[::]:22", "--check", "[::]:23"];
    expect(await preload(...args)).toEqual({
      code: 1,
      out: "[::]:22 is refused: EADDRINUSE\n[::]:23 is refused: EACCES\n",
    });
    expect((await preload("--default", "direct", ...args.slice(0, -2))).code).toBe(1);
    expect((await preload("--default", "direct", "--check", "[::]:23")).out).toBe(
      "[::]:23 is bound for real\n",
    );
  });

  test("knows the addresses of the original, and their variables", async () => {
    const file = Buffer.alloc(128 + 108);
    file.write("/run/sb__@SB_", 128);
    writeFileSync(folder.file("skbox_dir_00001"), file);
    const ask = (...words: string[]) =>
      run([bin("socketbox-preload"), ...words.flatMap((word) => ["--check", word])], {
        env: {
          SKBOX_DIRECTORY_ROOT: folder.path,
          SKBOX_DIRECTORY_ROOT2: "/run/sb",
          SKBOX_PORT_FILTER_IPV4: "90",
        },
      });
    expect(await ask("[fe8f::2:1:2]:80", "[fe8f::3:1:2]:80", "[fe8f::1:1]:80", "127.180.1.2:80")).toEqual({
      code: 0,
      out: `[fe8f::2:1:2]:80 receives connections at /run/sb/00001/00002_00080
[fe8f::3:1:2]:80 listens at /run/sb/00001/00002_00080, a Unix stream socket
[fe8f::1:1]:80 receives connections at /run/sb_00080
127.180.1.2:80 receives connections at /run/sb/X4001/00002_00080
`,
    });
    expect(await ask("[fe8f::1:2]:80")).toEqual({ code: 1, out: "[fe8f::1:2]:80 is refused: ERANGE\n" });
    expect((await ask("[fe8f:1:0:2::1]:80", "[fe8f::2:1:2%1]:80")).out).toBe(
      "[fe8f:1:0:2::1]:80 is bound for real, to fe80:: and the last 64 bits, on interface 2\n[fe8f::2:1:2]:80 is bound for real\n",
    );
  });
});

describe("a map", () => {
  const said = async (...args: string[]) => {
    const { code, out } = await preload(...args);
    return `${code} ${out.replace(/^\S+ socketbox-preload: /, "")}`;
  };

  test("that cannot be read ends it with one line", async () => {
    expect(await said("--map", "80=web", "true")).toMatch(
      /^2 --map 80=web: "web" is not a path; expected .*\n$/,
    );
    expect(await said("-m", "80=/a", "-m", "80=/b", "true")).toMatch(
      /^2 --map: \*:80 is never reached: .*\n$/,
    );
    expect(await said("--default", "maybe", "true")).toMatch(
      /^2 --default: "maybe" is neither deny nor direct/,
    );
  });

  test("must be there, or a folder of the original's", async () => {
    expect(await said("true")).toMatch(
      /^2 nothing is mapped: expected --map SPEC, or one of SKBOX_DIRECTORY_ROOT/,
    );
    const env = { SKBOX_DIRECTORY_ROOT2: "/none" };
    expect((await run([bin("socketbox-preload"), "true"], { env })).code).toBe(0);
  });

  test("may stand in SOCKETBOX_MAP, and an inner command adds to an outer one", async () => {
    const env = { SOCKETBOX_MAP: "80=/outer 81=/other" };
    const check = ["--check", "[::]:80", "--check", "[::]:81", "--check", "[::]:82"];
    const inner = [bin("socketbox-preload"), "-m", "80=/inner", ...check];
    expect((await run(inner, { env })).out).toMatch(/is never reached/);
    const { out } = await run([bin("socketbox-preload"), "--", ...inner], { env });
    expect(out).toBe(
      "[::]:80 receives connections at /inner\n[::]:81 receives connections at /other\n[::]:82 is refused: EACCES\n",
    );
  });

  test("with a broken variable beside it ends it before the program is started", async () => {
    const env = { SKBOX_PORT_FILTER_IPV4: "http" };
    const { code, out } = await run([bin("socketbox-preload"), "-m", "80=/w", "echo", "started"], { env });
    expect(code).toBe(2);
    expect(out).toMatch(/^[^\n]*SKBOX_PORT_FILTER_IPV4=http: expected T_ODD[^\n]*\n$/);
  });
});

describe("the program", () => {
  const started = (...words: string[]) => [bin("socketbox-preload"), "-m", "80=/w", "--", ...words];

  test("gets its arguments, its exit code, and the descriptors it was started with", async () => {
    const script = `printf '%s.' "$0" "$@"; readlink /proc/self/fd/3; exit 7`;
    const { code, out } = await run([
      "sh",
      "-c",
      `exec "$@" 3</dev/null`,
      "sh",
      ...started("sh", "-c", script, "a b", ""),
    ]);
    expect([code, out]).toEqual([7, "a b../dev/null\n"]);
  });

  test("gets the limit of descriptors and the ignored signals that the command was started with", async () => {
    const ignored = `import os, resource, signal
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], *[int(signal.getsignal(s) == signal.SIG_IGN)
  for s in (signal.SIGHUP, signal.SIGXFSZ, signal.SIGUSR1)])`;
    const script = `trap '' HUP; ulimit -Sn 123; exec "$@"`;
    const python = ["python3", "-c", ignored];
    const native = (await run(["sh", "-c", script, "sh", ...python])).out;
    expect((await run(["sh", "-c", script, "sh", ...started(...python)])).out).toBe(native);
    expect(native).toMatch(/^123 1 /);
  });

  test("has those signals blocked that the command was started with blocked", async () => {
    const block = `import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD, signal.SIGTERM, 50})
os.execvp(sys.argv[1], sys.argv[1:])`;
    const ask = ["grep", "^SigBlk", "/proc/self/status"];
    const native = (await run(["python3", "-c", block, ...ask])).out;
    expect((await run(["python3", "-c", block, ...started(...ask)])).out).toBe(native);
    expect(native).toBe("SigBlk:\t0002000000014200\n");
  });

  test("has the library first in LD_PRELOAD, once, and nothing of ours beside the map", async () => {
    const env = { LD_PRELOAD: `${library} /usr/lib/x86_64-linux-gnu/libdl.so.2` };
    const { out } = await run(started("env"), { env });
    const variables = out.split("\n");
    expect(variables).toContain(`LD_PRELOAD=${library}:/usr/lib/x86_64-linux-gnu/libdl.so.2`);
    expect(variables.filter((one) => one.startsWith("SOCKETBOX_"))).toEqual(["SOCKETBOX_MAP=* 80 80 r /w"]);
  });

  test("has variables that are not UTF-8 as they came", async () => {
    const start = `ODD=$(printf 'a\\377\\303=') exec "$@"`;
    const program = ["sh", "-c", 'printf %s "$ODD" | od -An -v -tx1'];
    const words = [bin("socketbox-preload"), "-m", "80=/w", ...program];
    expect(await must(["sh", "-c", start, "sh", ...words])).toBe(" 61 ff c3 3d\n");
  });

  test("that is not there is an error of the system", async () => {
    const { code, out } = await run(started("no-such-program"));
    expect([code, out]).toEqual([3, expect.stringMatching(/find program no-such-program: ENOENT/)]);
  });

  test("listens at the path, and its other binds are refused", async () => {
    const path = folder.file("web.sock");
    const script = `import socket
s = socket.create_server(("127.0.0.1", 80)); print(*s.getsockname())
try: socket.create_server(("127.0.0.1", 81))
except PermissionError as error: print(error.errno)
import signal; signal.pause()`;
    await using running = new Running([
      bin("socketbox-preload"),
      "-m",
      `80=${path}`,
      "python3",
      "-uc",
      script,
    ]);
    await running.until(/127\.0\.0\.1 80\n13\n/);
    expect(statSync(path).isSocket()).toBe(true);
  });

  test("stays without the library after a cleaned environment with --no-follow, and with it otherwise", async () => {
    const script = `import os; os.execve("/usr/bin/env", ["env"], {"A": "1"})`;
    const words = ["-m", "80=/w", "python3", "-c", script];
    expect((await preload("--no-follow", ...words)).out).toBe("A=1\n");
    expect((await preload(...words)).out).toBe(
      `A=1\nLD_PRELOAD=${library}\nSOCKETBOX_MAP=* 80 80 r /w\n* 0 65535 d 13\n\n`,
    );
  });

  const ioUring = [
    "/usr/bin/python3",
    "-c",
    "import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.syscall(425, 1, 0); print(ctypes.get_errno())",
  ];
  const ENOSYS = "38\n";

  test("finds that io_uring_setup is ENOSYS with --no-io-uring", async () => {
    expect((await preload("--no-io-uring", "-m", "80=/w", ...ioUring)).out).toBe(ENOSYS);
    expect((await preload("-m", "80=/w", ...ioUring)).out).not.toBe(ENOSYS);
  });

  testWith(root, program("setpriv"))("finds the same without privileges", async () => {
    const other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const command = [...other, bin("socketbox-preload"), "--no-io-uring", "-m", "80=/w", ...ioUring];
    expect((await run(command)).out).toBe(ENOSYS);
  });
});

describe("a program that the library cannot get into is refused before it starts:", () => {
  const refused = async (...command: string[]) => {
    const { code, out } = await preload("-m", "80=/w", ...command);
    return `${code} ${out.replace(/^\S+ socketbox-preload: /, "")}`;
  };
  const hello = `#include <stdio.h>\nint main(void) { puts("started"); return 0; }\n`;

  testWith(gcc)("a static one", async () => {
    for (const flags of [["-static"], ["-static-pie"]])
      expect(await refused(await compile("static", hello, ...flags))).toMatch(
        /^1 \S+\/static is statically linked: .*\n$/,
      );
  });

  testWith(gcc)("one made by Go, which is dynamic all the same", async () => {
    const note = `__asm__(".section .note.go.buildid,\\"a\\",%note\\n.long 4, 8, 4\\n.asciz \\"Go\\"\\n.byte 0\\n"
".ascii \\"build-id\\"\\n.previous\\n");\n`;
    expect(await refused(await compile("go", note + hello))).toMatch(/^1 \S+\/go is a Go program, .*\n$/);
  });

  test("one of another word size, for another processor, or with another dynamic linker", async () => {
    const elf = readFileSync(Bun.which("true")!);
    const changed = (name: string, change: (bytes: Buffer) => void) => {
      const bytes = Buffer.from(elf);
      change(bytes);
      writeFileSync(folder.file(name), bytes, { mode: 0o755 });
      return refused(folder.file(name));
    };
    expect(await changed("machine", (bytes) => bytes.writeUInt16LE(243, 18))).toMatch(
      /^1 \S+ is a program for another kind of processor\n$/,
    );
    expect(await changed("bits", (bytes) => bytes.writeUInt8(1, 4))).toMatch(
      /^1 \S+ is a program of 32 bits/,
    );
    expect(
      await changed("linker", (bytes) => bytes.write("uclibc", bytes.indexOf("ld-linux"), "latin1")),
    ).toMatch(/^1 \S+ runs on \S+, which is neither glibc's nor musl's dynamic linker\n$/);
  });

  testWith(
    root,
    program("setpriv"),
    program("setcap"),
  )("one that is set-uid, or has file capabilities", async () => {
    chmodSync(folder.path, 0o755);
    const other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const as = async (file: string) => {
      const { code, out } = await run([...other, bin("socketbox-preload"), "-m", "80=/w", file], {
        env: { HOME: "/nonexistent" },
      });
      return `${code} ${out.replace(/^\S+ socketbox-preload: /, "")}`;
    };
    const [setuid, setgid, capable] = ["setuid", "setgid", "capable"].map((name) => folder.file(name));
    for (const file of [setuid!, setgid!, capable!]) copyFileSync("/bin/true", file);
    chmodSync(setuid!, 0o4755);
    chmodSync(setgid!, 0o2755);
    await must(["setcap", "cap_net_bind_service=ep", capable!]);
    expect(await as(setuid!)).toMatch(/^1 \S+ is set-uid: the dynamic linker would leave the library out\n$/);
    expect(await as(setgid!)).toMatch(/^1 \S+ is set-gid: /);
    expect(await as(capable!)).toMatch(/^1 \S+ has file capabilities: /);
    expect(await refused(setuid!)).toBe("0 "); // to its own user it is a program like others
  });

  testWith(gcc)(
    "a script, when its interpreter is one of these; env and interpreters of interpreters are followed",
    async () => {
      const script = (name: string, first: string) => {
        writeFileSync(folder.file(name), `#!${first}\necho started\n`, { mode: 0o755 });
        return folder.file(name);
      };
      const still = await compile("interpreter", hello, "-static");
      expect(await refused(script("direct", still))).toMatch(
        /^1 \S+\/interpreter \(which \S+\/direct leads to\) is statically linked/,
      );
      expect(await refused(script("twice", `${script("once", still)} -x`))).toMatch(/is statically linked/);
      const { code, out } = await run(
        [bin("socketbox-preload"), "-m", "80=/w", script("env", "/usr/bin/env interpreter")],
        {
          env: { PATH: `${folder.path}:${PATH}` },
        },
      );
      expect([code, out]).toEqual([1, expect.stringMatching(/is statically linked/)]);
      expect(await refused(script("shell", "/bin/sh"))).toBe("0 started\n");
      writeFileSync(folder.file("text"), "echo\n", { mode: 0o755 });
      expect(await refused(folder.file("text"))).toMatch(/^1 \S+ is neither an ELF program nor a script/);
    },
  );
});

describe("the library's file", () => {
  test("is the one that was built, where everybody can read it", async () => {
    const { out } = await preload("--print-path");
    expect(out === `${library}\n` || /^\/var\/cache\/socketbox\/\S+\.so\n$/.test(out)).toBe(true);
    expect((await preload("--print-path", "true")).out).toBe(out);
  });

  testWith(program("musl-gcc"))("is the one for musl for programs of musl", async () => {
    const path = folder.file("musl");
    writeFileSync(`${path}.c`, "int main(void) { return 0; }");
    await must(["musl-gcc", "-o", path, `${path}.c`]);
    expect((await preload("--print-path", path)).out).toMatch(/musl\S*\.so\n$/);
    expect((await preload("-m", "80=/w", path)).code).toBe(0);
  });

  testWith(root)("is copied to a folder of root's where its own is closed to others", async () => {
    using closed = scratch();
    mkdirSync(closed.file("copy"));
    await must([
      "cp",
      "-r",
      join(ROOT, "bin"),
      join(ROOT, "src"),
      join(ROOT, "package.json"),
      join(ROOT, "zig-out"),
      closed.file("copy"),
    ]);
    for (const name of ["node_modules", ".toolchain"])
      symlinkSync(join(ROOT, name), closed.file(`copy/${name}`));
    chmodSync(closed.path, 0o700);
    const { code, out } = await run([closed.file("copy/bin/socketbox-preload"), "--print-path"]);
    expect([code, out]).toEqual([
      0,
      expect.stringMatching(/^\/var\/cache\/socketbox\/libsocketbox-preload-glibc-[0-9a-f]{16}\.so\n$/),
    ]);
    const file = out.trim();
    expect([statSync(file).mode & 0o7777, statSync(file).uid]).toEqual([0o644, 0]);
    expect(readFileSync(file).equals(readFileSync(library))).toBe(true);
    writeFileSync(file, "not the library"); // half a copy, or an old one
    await run([closed.file("copy/bin/socketbox-preload"), "--print-path"]);
    expect(readFileSync(file).equals(readFileSync(library))).toBe(true);
    expect(existsSync(closed.file("copy"))).toBe(true);
  });
});
