/** -e: the program that follows becomes the server, with a bound listener and as if nothing of us had been there. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { EXIT } from "../../../src/programs/host.ts";
import { pythonCommand, said } from "../../kit/python.ts";
import { ask, freePort, must, Running, run, scratch } from "../../kit/running.ts";
import { SOCKETBOX, testPython, testRoot } from "./server.ts";

interface Became {
  readonly pid: number;
  readonly argv: readonly string[];
  readonly own: readonly string[];
  readonly listening: number;
  readonly nonblocking: boolean;
  readonly name: readonly [string, number];
  readonly status: Readonly<Record<string, string>>;
  readonly files: string;
}

/** Says what it is, then takes one connection. */
const PROGRAM = `
fd = int(os.environ["SKBOX_LISTEN_FD"])
listening = socket.socket(fileno=fd)
status = dict(line.strip("\\n ").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
say(pid=os.getpid(), argv=sys.argv[1:], own=[name for name in os.environ if name.startswith("SOCKETBOX_")],
    listening=listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    nonblocking=bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK),
    name=listening.getsockname()[:2],
    status={key: status[key] for key in ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigBlk"]},
    files=[line.split()[3] for line in open("/proc/self/limits") if line.startswith("Max open files")][0])
listening.listen()
client, _ = listening.accept()
client.sendall(b"from the program")
client.close()`;

async function becomeProgram(
  words: readonly string[],
  args: readonly string[] = [],
  before: readonly string[] = [],
) {
  const running = new Running([...before, SOCKETBOX, ...words, "-e", ...pythonCommand(PROGRAM, ...args)]);
  await running.until(/\{.*\}\n/);
  return { running, became: said<Became>(running.out)[0]! };
}

describe("-e", () => {
  testPython(
    "gives the program a bound socket that does not listen yet, and can still gain privileges",
    async () => {
      const port = await freePort();
      const { running, became } = await becomeProgram(["-l", "127.0.0.1", "-p", String(port)]);
      await using _running = running;
      expect(became).toMatchObject({
        // The same process: nobody stands between the program and whoever supervises it.
        pid: running.pid,
        listening: 0,
        nonblocking: false,
        name: ["::ffff:127.0.0.1", port],
        status: { NoNewPrivs: "0", Seccomp: "0", SigBlk: "0".repeat(16) },
      });
      expect(await ask(port, "127.0.0.1")).toBe("from the program");
      expect(await running.ended()).toBe(0);
    },
  );

  testPython("ends our own options: whatever follows is the program's", async () => {
    const args = ["-h", "--help", "-p", "1", "--", "-x", "a b", ""];
    const { running, became } = await becomeProgram(["-p", String(await freePort())], args);
    await using _running = running;
    expect(became.argv).toEqual(args);
  });

  testPython("passes the environment on without our own variables, and the limits as they were", async () => {
    const words = ["-p", String(await freePort())];
    const { running, became } = await becomeProgram(
      words,
      [],
      ["/bin/sh", "-c", 'ulimit -Sn 555; exec "$@"', "sh"],
    );
    await using _running = running;
    expect(became.own).toEqual([]);
    expect(became.files).toBe("555");
  });

  test.each([[[]], [["-d"]]])("passes variables that are not UTF-8 on as they came (%j)", async (words) => {
    using folder = scratch();
    const end = `od -An -v -tx1 >${folder.file("seen")}.new; mv ${folder.file("seen")}.new ${folder.file("seen")}`;
    const program = `printf %s "$ODD" | ${end}`;
    const start = `ODD=$(printf 'a\\377\\303=') exec "$@"`;
    const port = String(await freePort());
    await must(["sh", "-c", start, "sh", SOCKETBOX, ...words, "-p", port, "-e", "/bin/sh", "-c", program]);
    while (!existsSync(folder.file("seen"))) await Bun.sleep(5);
    expect(readFileSync(folder.file("seen"), "utf8")).toBe(" 61 ff c3 3d\n");
  });

  testPython(
    "leaves signals as they were: a shell it becomes ignores what we were told to ignore, and no more",
    async () => {
      const script = `trap '' HUP; exec '${SOCKETBOX}' -p ${await freePort()} -e grep -E '^Sig(Ign|Blk)' /proc/self/status`;
      expect(await must(["/bin/sh", "-c", script])).toBe(
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n",
      );
    },
  );

  testRoot("applies -u, -g and -G before", async () => {
    const words = ["-u", "nobody", "-g", "tty", "-G", "7", "-p", String(await freePort())];
    const { running, became } = await becomeProgram(words);
    await using _running = running;
    expect(became.status).toMatchObject({
      Uid: "65534\t65534\t65534\t65534",
      Gid: "5\t5\t5\t5",
      Groups: "7",
      NoNewPrivs: "0",
    });
  });

  testRoot("runs as whom [server] of a TOML file says, and where its first [[listen]] says", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("e.toml");
    writeFileSync(
      file,
      `[server]\nuser = 1234\n[[listen]]\naddress = "::1"\nport = ${port}\n[[route]]\nto = "deny"\n`,
    );
    const { running, became } = await becomeProgram(["-f", file]);
    await using _running = running;
    expect(became.name).toEqual(["::1", port]);
    expect(became.status.Uid).toBe("1234\t1234\t1234\t1234");
  });

  test("passes on every other descriptor that it was started with", async () => {
    const start = 'exec 3</etc 4</dev/null 9</dev/zero; exec "$@"';
    const look = "for fd in 3 4 9; do readlink /proc/$$/fd/$fd; done";
    const words = [SOCKETBOX, "-e", "-p", "0", "sh", "-c", look];
    const out = "/etc\n/dev/null\n/dev/zero\n";
    expect(await run(["sh", "-c", start, "sh", ...words])).toEqual({ code: 0, out });
  });

  test("needs no configuration, and says when the program is not there", async () => {
    const words = ["-f", "/no/such/file", "-p", String(await freePort()), "-e"];
    expect(await run([SOCKETBOX, ...words, "echo", "became"])).toEqual({ code: 0, out: "became\n" });
    const { code, out } = await run([SOCKETBOX, ...words, "/no/such/program"]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain("/no/such/program: ENOENT");
  });
});
