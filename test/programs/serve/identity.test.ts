/** -u -g -G -k -x: what is given up is given up on every thread, and read back from the kernel. */
import { describe, expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { EXIT } from "../../../src/programs/host.ts";
import { Namespace } from "../../kit/namespace.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ask, freePort, ROOT, Running, ready, run, scratch, threadStatus } from "../../kit/running.ts";
import { receiver, SOCKETBOX, testRoot } from "./server.ts";

/** The different values that the threads of a process have in each of these fields. */
function threads(pid: number, ...fields: string[]): Record<string, string[]> {
  return Object.fromEntries(fields.map((field) => [field, [...new Set(threadStatus(pid, field))]]));
}

const four = (id: number) => [[id, id, id, id].join("\t")];
const NO_CAPABILITIES = ["0".repeat(16)];
const CONFINED = { NoNewPrivs: ["1"], Seccomp: ["2"] };

/** A server with three acceptors, so that there are threads of every kind. */
async function server(words: readonly string[], before: readonly string[] = []) {
  const folder = scratch();
  chmodSync(folder.path, 0o755); // some start as another user
  const file = folder.file("three.toml");
  const port = await freePort();
  writeFileSync(file, `[server]\nworkers = 3\n[[listen]]\nport = ${port}\n[[route]]\nto = "unix:@nobody"\n`);
  const running = new Running([...before, SOCKETBOX, "-f", file, ...words]);
  await running.until(/: ready: .* 3 acceptors/);
  return {
    pid: running.pid,
    port,
    async [Symbol.asyncDispose]() {
      await running[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

const othersCanRead = {
  name: "a checkout that other users can read",
  met:
    spawnSync("setpriv", ["--reuid=65534", "--clear-groups", "test", "-r", join(ROOT, "src/cli/main.ts")])
      .status === 0,
};

describe("every thread", () => {
  testRoot("has the user of -u NAME, its group, no other group, no capability, no way back", async () => {
    await using started = await server(["-u", "nobody"]);
    expect(threadStatus(started.pid, "Uid").length).toBeGreaterThan(3);
    expect(
      threads(
        started.pid,
        "Uid",
        "Gid",
        "Groups",
        "CapPrm",
        "CapEff",
        "CapAmb",
        "CapInh",
        "NoNewPrivs",
        "Seccomp",
      ),
    ).toEqual({
      Uid: four(65534),
      Gid: four(65534),
      Groups: [""],
      CapPrm: NO_CAPABILITIES,
      CapEff: NO_CAPABILITIES,
      CapAmb: NO_CAPABILITIES,
      CapInh: NO_CAPABILITIES,
      ...CONFINED,
    });
  });

  testRoot("has neither group 0 nor a supplementary group after -u NUMBER", async () => {
    await using started = await server(["-u", "54321"]);
    expect(threads(started.pid, "Uid", "Gid", "Groups")).toEqual({
      Uid: four(54321),
      Gid: four(65534),
      Groups: [""],
    });
  });

  testRoot("has the groups of -g and -G, by name or number", async () => {
    await using started = await server(["-u", "nobody", "-g", "12345", "-G", "tty,54321"]);
    expect(threads(started.pid, "Gid", "Groups")).toEqual({ Gid: four(12345), Groups: ["5 54321"] });
  });

  testRoot(
    "of a server that stays root has -g and -G all the same, and cannot gain anything by an exec",
    async () => {
      await using started = await server(["-g", "tty"]);
      expect(threads(started.pid, "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp")).toEqual({
        Uid: four(0),
        Gid: four(5),
        Groups: [""],
        ...CONFINED,
      });
    },
  );

  testWith(program("setpriv"), root)(
    "keeps its supplementary groups with -k, and loses them without",
    async () => {
      const before = ["setpriv", "--groups=7,8"];
      await using kept = await server(["-k", "-u", "nobody"], before);
      await using dropped = await server(["-u", "nobody"], before);
      expect(threads(kept.pid, "Uid", "Groups")).toEqual({ Uid: four(65534), Groups: ["7 8"] });
      expect(threads(dropped.pid, "Uid", "Groups")).toEqual({ Uid: four(65534), Groups: [""] });
    },
  );

  testWith(
    program("setpriv"),
    program("nsenter"),
    root,
    othersCanRead,
  )("loses the ambient capabilities that an unprivileged server was started with for its port", async () => {
    await using host = await Namespace.local();
    const capability = (sign: string) => `${sign}net_bind_service`;
    const words = [
      ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
      ...[`--inh-caps=${capability("+")}`, `--ambient-caps=${capability("+")}`],
      ...[SOCKETBOX, "-p", "80", "-S", "@nobody"],
    ];
    await using started = host.start(words);
    await started.until(/: ready: \[::\]:80;/);
    expect(threads(started.pid, "Uid", "CapPrm", "CapEff", "CapAmb", "CapInh", "NoNewPrivs")).toEqual({
      Uid: four(65534),
      CapPrm: NO_CAPABILITIES,
      CapEff: NO_CAPABILITIES,
      CapAmb: NO_CAPABILITIES,
      CapInh: NO_CAPABILITIES,
      NoNewPrivs: ["1"],
    });
  });
});

describe("-u, -g and -G", () => {
  testRoot("take no name that is not there, and the server does not start", async () => {
    const port = await freePort();
    for (const [option, message] of [
      ["-u", 'there is no user "no-such-name"'],
      ["-g", 'there is no group "no-such-name"'],
      ["-G", 'there is no group "no-such-name"'],
    ] as const) {
      const { code, out } = await run([
        SOCKETBOX,
        "-S",
        "@nobody",
        "-p",
        String(port),
        option,
        "no-such-name",
      ]);
      expect([code, out.includes("ready")]).toEqual([EXIT.system, false]);
      expect(out).toContain(message);
    }
  });

  testRoot("override [server] of the file, and the file holds where they are silent", async () => {
    using folder = scratch();
    const file = folder.file("s.toml");
    writeFileSync(file, '[server]\nuser = 1234\ngroup = 5\ngroups = ["7"]\n[[route]]\nto = "unix:@nobody"\n');
    const [one, two] = [await freePort(), await freePort()];
    await using plain = await ready("socketbox", ["-f", file, "-p", String(one)]);
    expect(threads(plain.pid, "Uid", "Gid", "Groups")).toEqual({
      Uid: four(1234),
      Gid: four(5),
      Groups: ["7"],
    });
    await using over = await ready("socketbox", ["-f", file, "-p", String(two), "-u", "nobody", "-G", "8"]);
    expect(threads(over.pid, "Uid", "Gid", "Groups")).toEqual({
      Uid: four(65534),
      Gid: four(5),
      Groups: ["8"],
    });
  });
});

describe("who is already who -u names", () => {
  const as = (groups: string) => ["setpriv", "--reuid=65534", "--regid=65534", `--groups=${groups}`];
  const need = testWith(program("setpriv"), root, othersCanRead);

  need(
    "needs no privilege for it, with that user's own group among the supplementary ones or not",
    async () => {
      for (const [before, words] of [
        [
          ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
          ["-u", "nobody"],
        ],
        [as("65534"), ["-u", "nobody"]],
        [as("7"), ["-u", "nobody", "-G", "7"]],
      ] as const) {
        await using started = await server(words, before);
        expect(threads(started.pid, "Uid", "Gid", "NoNewPrivs")).toEqual({
          Uid: four(65534),
          Gid: four(65534),
          NoNewPrivs: ["1"],
        });
      }
    },
  );

  need("is told when there is a group too many, or one too few", async () => {
    for (const [groups, words] of [
      ["7", ["-u", "nobody"]],
      ["65534", ["-u", "nobody", "-G", "7"]],
    ] as const) {
      const port = String(await freePort());
      const { code, out } = await run([...as(groups), SOCKETBOX, "-S", "@nobody", "-p", port, ...words]);
      expect(code).toBe(EXIT.system);
      expect(out).toContain("set supplementary groups: EPERM");
    }
  });
});

describe("-x", () => {
  testRoot(
    "puts the server under another root: receivers are looked for inside, the file was opened outside",
    async () => {
      using folder = scratch();
      const jail = folder.file("jail");
      mkdirSync(jail);
      const port = await freePort();
      const file = folder.file("outside.conf");
      writeFileSync(file, "rule-set:0\njump-unix:/r\n");
      await using _inside = await receiver(join(jail, "r"), "inside");
      await using server = await ready("socketbox", ["-x", jail, "-f", file, "-p", String(port)]);
      expect(await ask(port, "::1")).toBe("inside");
      expect(readlinkSync(`/proc/${server.pid}/root`)).toBe(jail);
      expect(readlinkSync(`/proc/${server.pid}/cwd`)).toBe(jail);
      expect(await server.stop()).toBe(0);
    },
  );

  testRoot("works together with -u, and says when the folder is not there", async () => {
    using folder = scratch();
    const port = await freePort();
    mkdirSync(folder.file("jail"));
    await using server = await ready("socketbox", [
      "-x",
      folder.file("jail"),
      "-u",
      "nobody",
      "-S",
      "@r",
      "-p",
      String(port),
    ]);
    expect(threads(server.pid, "Uid", "NoNewPrivs")).toEqual({ Uid: four(65534), NoNewPrivs: ["1"] });
    expect(readlinkSync(`/proc/${server.pid}/root`)).toBe(folder.file("jail"));
    const { code, out } = await run([
      SOCKETBOX,
      "-x",
      folder.file("none"),
      "-S",
      "@r",
      "-p",
      String(await freePort()),
    ]);
    expect(code).toBe(EXIT.system);
    expect(out).toContain(`chroot to ${folder.file("none")}: ENOENT`);
  });
});

describe("a receiver of root's", () => {
  testRoot("can be reached by a server without privileges whose group its folder passes on", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o755);
    const port = await freePort();
    const paths = ["open", "closed"].map((name) => join(folder.file(name), "r"));
    for (const path of paths) mkdirSync(dirname(path));
    // As install -d -m 2750 -g GROUP does it; chown would take the bit away again.
    chownSync(folder.file("open"), 0, 65534);
    chmodSync(folder.file("open"), 0o2750);
    chmodSync(folder.file("closed"), 0o755);
    await using _open = await ready("socketbox-inetd", [paths[0]!, "echo", "here"]);
    await using _closed = await ready("socketbox-inetd", [paths[1]!, "echo", "here"]);
    const file = folder.file("a.toml");
    const targets = paths.map((path, i) => `[[route]]\nlocal = "127.0.0.${i + 1}"\nto = "unix:${path}"\n`);
    writeFileSync(file, targets.join(""));
    await using server = await ready("socketbox", ["-u65534", "-g65534", "-f", file, `-p${port}`]);
    expect(await ask(port, "127.0.0.1")).toBe("here\n");
    const waiting = ask(port, "127.0.0.2");
    await server.until(/closed\/r: connect: EACCES \(permission denied\); its connections wait/);
    chmodSync(paths[1]!, 0o666);
    expect(await waiting).toBe("here\n");
  });
});
