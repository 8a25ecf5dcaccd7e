/** docs/systemd/: the units say what systemd understands, leave little exposed, and start programs as these take it. */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { passing } from "./kit/passed.ts";
import { program, root, testWith } from "./kit/require.ts";
import { ask, bin, freePort, must, ROOT, Running, ready, run, scratch } from "./kit/running.ts";
import { boundUnix } from "./kit/sockets.ts";

const UNITS = join(ROOT, "docs/systemd");
const names = readdirSync(UNITS).filter((name) => /\.(service|socket)$/.test(name));

/** The most that `systemd-analyze security` may find exposed, in tenths (0 to 100). */
const EXPOSED_MOST: Readonly<Record<string, number>> = {
  "socketbox.service": 17,
  "socketbox-relay.service": 14,
  "socketbox-git.service": 9,
};

/** The units with the programs of this checkout, which need not be installed. */
function unitsIn(folder: string): string[] {
  return names.map((name) => {
    const path = join(folder, name);
    const text = readFileSync(join(UNITS, name), "utf8");
    writeFileSync(path, text.replaceAll("/usr/bin/socketbox", bin("socketbox")));
    return path;
  });
}

/** The words of a unit's ExecStart=, which may go over several lines. */
function execStart(name: string): string[] {
  const text = readFileSync(join(UNITS, name), "utf8").replaceAll("\\\n", " ");
  return /^ExecStart=(.*)$/m.exec(text)![1]!.split(/\s+/);
}

/** System calls by group, as this systemd knows them; a group may hold others. */
async function callGroups(): Promise<ReadonlyMap<string, readonly string[]>> {
  const groups = new Map<string, string[]>();
  let group: string[] = [];
  for (const line of (await must(["systemd-analyze", "--no-pager", "syscall-filter"])).split("\n")) {
    const name = /^(@[\w-]+)/.exec(line)?.[1];
    if (name) {
      group = [];
      groups.set(name, group);
    } else if (/^ +[@\w]/.test(line)) group.push(line.trim());
  }
  return groups;
}

/** What SystemCallFilter= of a unit lets through (systemd.exec(5)): the first line begins a list, `~` takes away. */
async function allowedCalls(name: string): Promise<Set<string>> {
  const groups = await callGroups();
  const callsOf = (word: string): string[] =>
    word.startsWith("@") ? (groups.get(word) ?? []).flatMap(callsOf) : [word];
  const allowed = new Set(callsOf("@default"));
  for (const [, sign, words] of readFileSync(join(UNITS, name), "utf8").matchAll(
    /^SystemCallFilter=(~?)(.*)$/gm,
  ))
    for (const call of words!.split(" ").flatMap(callsOf))
      if (sign) allowed.delete(call);
      else allowed.add(call);
  return allowed;
}

/** Calls, and families of sockets, that the unit of a traced program would have refused. */
async function refusedBy(name: string, trace: string): Promise<{ calls: string[]; families: string[] }> {
  const allowed = await allowedCalls(name);
  const families = /^RestrictAddressFamilies=(.*)$/m.exec(readFileSync(join(UNITS, name), "utf8"))![1]!;
  const text = readFileSync(trace, "utf8");
  const found = (pattern: RegExp) => [...new Set([...text.matchAll(pattern)].map(([, word]) => word!))];
  return {
    calls: found(/^\d+ +(?:<\.\.\. )?([a-z]\w*)[( ]/gm).filter((call) => !allowed.has(call)),
    families: found(/\bsocket\((AF_\w+)/g).filter((family) => !families.split(" ").includes(family)),
  };
}

interface Traced extends AsyncDisposable {
  readonly running: Running;
  kill(signal: NodeJS.Signals): void;
}

/** Starts one of our programs under strace(1), and waits until it is ready. */
async function traced(trace: string, name: string, args: readonly string[]): Promise<Traced> {
  const running = new Running(["strace", "-f", "-qq", "-o", trace, bin(name), ...args]);
  await running.until(/: ready: /);
  const pid = Number(/^\d+/.exec(readFileSync(trace, "utf8"))![0]);
  return {
    running,
    kill: (signal) => void process.kill(pid, signal),
    [Symbol.asyncDispose]: async () => {
      if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGKILL");
      await running.ended();
    },
  };
}

describe("the units", () => {
  testWith(program("systemd-analyze"))("are understood without a word", async () => {
    using folder = scratch();
    const units = unitsIn(folder.path);
    expect(await run(["systemd-analyze", "verify", ...units])).toEqual({ code: 0, out: "" });
    // It would say so: the same with a word that nobody knows.
    const service = folder.file("socketbox.service");
    writeFileSync(service, `${readFileSync(service, "utf8")}\n[Service]\nProtectEverything=yes\n`);
    expect((await run(["systemd-analyze", "verify", ...units])).out).toContain("ProtectEverything");
  });

  testWith(program("systemd-analyze"))("leave no more exposed than they must", async () => {
    using folder = scratch();
    const services = unitsIn(folder.path).filter((path) => path.endsWith(".service"));
    expect(services.map((path) => path.split("/").pop()!).sort()).toEqual(Object.keys(EXPOSED_MOST).sort());
    for (const path of services) {
      const most = EXPOSED_MOST[path.split("/").pop()!]!;
      const command = (threshold: number) => [
        ...["systemd-analyze", "security", "--offline=true", "--no-pager", `--threshold=${threshold}`],
        path,
      ];
      expect([path, (await run(command(most))).code]).toEqual([path, 0]);
      expect([path, (await run(command(most - 2))).code]).not.toEqual([path, 0]);
    }
  });

  testWith(
    program("systemd-sysusers"),
    program("systemd-tmpfiles"),
    root,
  )("find the user and the folders that sysusers.conf and tmpfiles.conf make", async () => {
    using folder = scratch();
    mkdirSync(folder.file("etc"));
    const below = `--root=${folder.path}`;
    await must(["systemd-sysusers", below, join(UNITS, "sysusers.conf")]);
    await must(["systemd-tmpfiles", below, "--create", join(UNITS, "tmpfiles.conf")]);
    const entry = readFileSync(folder.file("etc/passwd"), "utf8").split("\n")[0]!.split(":");
    expect([entry[0], entry[6]]).toEqual(["socketbox", "/usr/sbin/nologin"]);
    // The server's user can put nothing in the place of a receiver or a configuration.
    for (const made of ["run/socketbox", "etc/socketbox"]) {
      const { uid, mode } = statSync(folder.file(made));
      expect([made, uid, mode & 0o7777]).toEqual([made, 0, 0o755]);
    }
  });

  test("start the server and the relay with options that these know, and a configuration that is right", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    writeFileSync(folder.file("socketbox.toml"), `[[listen]]\nport = ${port}\n[[route]]\nto = "deny"\n`);
    writeFileSync(
      folder.file("relay.toml"),
      `[[relay]]\nname = "r"\nfrom = "unix:${folder.file("r")}"\nto = "127.0.0.1:${other}"\n`,
    );
    for (const name of ["socketbox.service", "socketbox-relay.service"]) {
      const [path, ...words] = execStart(name);
      const args = words.map((word) => word.replace("/etc/socketbox", folder.path));
      await using running = await ready(path!.replace("/usr/bin/", ""), args);
      expect(await running.stop()).toBe(0);
    }
  });

  test("start the example of a receiver with options that it knows, on the socket that its unit binds", async () => {
    using folder = scratch();
    const [path, ...words] = execStart("socketbox-git.service");
    const box = /^ListenDatagram=(.*)$/m.exec(readFileSync(join(UNITS, "socketbox-git.socket"), "utf8"))![1]!;
    const at = words.indexOf(box);
    expect(at).toBeGreaterThan(0);
    using kept = boundUnix(folder.file("box"));
    // This machine has no such user, and need not have that program.
    const options = words
      .slice(0, at)
      .map((word) => (word === "socketbox" ? String(process.getuid!()) : word));
    const args = [...options, folder.file("box"), "/bin/echo", ...words.slice(at + 2)];
    await using inetd = passing(path!.replace("/usr/bin/", ""), args, [["git", kept.number]]);
    await inetd.until(/: ready: /);
    const port = await freePort();
    await using _server = await ready("socketbox", ["-p", String(port), "-S", folder.file("box")]);
    expect(await ask(port, "127.0.0.1")).toBe("daemon --inetd --base-path=/srv/git /srv/git\n");
  });

  const strace = testWith(program("systemd-analyze"), program("strace"));

  strace("refuse the server no system call that it makes", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    writeFileSync(
      file,
      `[server]\nworkers = 2\n[[listen]]\nport = ${port}\n[[route]]\nto = "slot:1"\n` +
        `[[registry]]\npath = "${folder.file("registry")}"\n[[registry.allow]]\nslot = 1\n`,
    );
    const args = ["-f", file, "--takeover", folder.file("takeover")];
    await using first = await traced(folder.file("first"), "socketbox", args);
    await using _receiver = await ready("socketbox-inetd-p", [folder.file("registry"), "1", "echo", "x"]);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
    writeFileSync(file, readFileSync(file, "utf8").replace('"slot:1"', '"deny"'));
    first.kill("SIGHUP");
    await first.running.until(/: reloaded: /);
    await using second = await traced(folder.file("second"), "socketbox", args);
    expect(await first.running.ended()).toBe(0);
    second.kill("SIGTERM");
    expect(await second.running.ended()).toBe(0);
    for (const trace of ["first", "second"])
      expect(await refusedBy("socketbox.service", folder.file(trace))).toEqual({ calls: [], families: [] });
    // By the unit of another program something would be.
    expect(await refusedBy("socketbox-git.service", folder.file("first"))).toEqual({
      calls: ["seccomp"],
      families: ["AF_INET6"],
    });
  });

  strace("refuse the relay and the receiver none either", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    const receiving = [folder.file("end"), "/bin/echo", "x"];
    await using inetd = await traced(folder.file("inetd"), "socketbox-inetd", receiving);
    await using _behind = await ready("socketbox", ["-p", String(other), "-S", folder.file("end")]);
    const relaying = ["-s", folder.file("r"), "--to", `localhost:${other}`];
    await using relay = await traced(folder.file("relay"), "socketbox-relay", relaying);
    await using _server = await ready("socketbox", ["-p", String(port), "-S", folder.file("r")]);
    expect(await ask(port, "127.0.0.1")).toBe("x\n");
    for (const { kill, running } of [relay, inetd]) {
      kill("SIGTERM");
      expect(await running.ended()).toBe(0);
    }
    const none = { calls: [], families: [] };
    expect(await refusedBy("socketbox-relay.service", folder.file("relay"))).toEqual(none);
    expect(await refusedBy("socketbox-git.service", folder.file("inetd"))).toEqual(none);
  });
});
