/** docs/systemd/: the units say what systemd understands, leave little exposed, and start programs as these take it. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { passing } from "./kit/passed.ts";
import { program, root, testWith } from "./kit/require.ts";
import { ask, bin, freePort, must, ROOT, ready, run, scratch } from "./kit/running.ts";
import { boundUnix } from "./kit/sockets.ts";

const UNITS = join(ROOT, "docs/systemd");
const names = readdirSync(UNITS).filter((name) => /\.(service|socket)$/.test(name));

/** The most that `systemd-analyze security` may find exposed, in tenths (0 to 100). */
const EXPOSED_MOST: Readonly<Record<string, number>> = {
  "socketbox.service": 17,
  "socketbox-relay.service": 16,
  "socketbox-git.service": 10,
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
});
