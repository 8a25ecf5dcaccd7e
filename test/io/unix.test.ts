/** Sockets in folders that others may write to. */
import { describe, expect, test } from "bun:test";
import { chmodSync, lstatSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { SOCK } from "../../src/io/socket.ts";
import { bindUnix } from "../../src/io/unix.ts";
import { ERRNO } from "../../src/native/errno.ts";
import { cString, native } from "../../src/native/library.ts";
import { python } from "../kit/python.ts";
import { program, root, testWith } from "../kit/require.ts";
import { scratch } from "../kit/running.ts";

const NOBODY = 65534;

/** Puts a link to argv[2] over the socket at argv[1] as soon as it is there, again and again. */
const LINKER = `
import stat
path, victim = sys.argv[1:]
print("ready", flush=True)
while True:
    os.symlink(victim, path + ".link")
    while True:
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                break
        except FileNotFoundError:
            pass
    os.rename(path + ".link", path)`;

describe("a socket's owner and mode", () => {
  test("are never given to what a link leads to, nor to another kind of file", () => {
    using folder = scratch();
    writeFileSync(folder.file("victim"), "", { mode: 0o600 });
    symlinkSync(folder.file("victim"), folder.file("link"));
    for (const name of ["link", "victim"])
      expect(native.sb_own_unix(cString(folder.file(name)), 0o666, NOBODY, NOBODY)).toBe(-ERRNO.ENOTSOCK);
    expect([statSync(folder.file("victim")).uid, statSync(folder.file("victim")).mode & 0o777]).toEqual([
      process.getuid!(),
      0o600,
    ]);
  });

  testWith(root, program("python3"))("nor when it is put there in the middle of it", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o777);
    const [path, victim] = [folder.file("r"), folder.file("victim")];
    writeFileSync(victim, "", { mode: 0o600 });
    await using linker = python(LINKER, [path, victim]);
    await linker.until(/ready/);
    let replaced = 0;
    for (let i = 0; i < 1000; i++) {
      try {
        bindUnix(path, SOCK.seqpacket, 0o660, { uid: NOBODY, gid: NOBODY }).fd.close();
      } catch {
        // the link was there before the end
      }
      while (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) await Bun.sleep(0);
      if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) replaced++;
      rmSync(path, { force: true });
    }
    expect(replaced).toBeGreaterThan(100);
    const { uid, gid, mode } = statSync(victim);
    expect([uid, gid, mode & 0o777]).toEqual([0, 0, 0o600]);
  });
});
