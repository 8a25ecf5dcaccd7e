/** What the server's options mean together. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { root, testWith } from "../kit/require.ts";
import { ask, bin, freePort, PATIENCE_MS, ready, run, scratch } from "../kit/running.ts";

test("with -d and -e the command returns, and the program has the bound socket in the background", async () => {
  using folder = scratch();
  const port = await freePort();
  const script = `
import os, socket
os.close(2) # the test reads it to its end
listener = socket.socket(fileno=int(os.environ["SKBOX_LISTEN_FD"]))
listener.listen()
open("${folder.file("pid")}", "w").write(str(os.getpid()))
client, _ = listener.accept()
client.sendall(b"from the background\\n")
`;
  const command = ["-d", "-e", "-p", String(port), "python3", "-c", script];
  expect(await run([bin("socketbox"), ...command])).toEqual({ code: 0, out: "" });
  let answer = "";
  for (const end = Date.now() + PATIENCE_MS; !answer && Date.now() < end; await Bun.sleep(10))
    answer = await ask(port, "127.0.0.1").catch(() => "");
  expect(answer).toBe("from the background\n");
  expect(readFileSync(folder.file("pid"), "utf8")).toMatch(/^\d+$/);
});

test("with -d and -e a program that is not there is the command's own failure", async () => {
  const { code, out } = await run([bin("socketbox"), "-dep", String(await freePort()), "no-such-program"]);
  expect(out).toContain("find program no-such-program: ENOENT");
  expect(code).toBe(3);
});

test("-S is taken as it is written: with the patterns of -U, and short where its folder's path is long", async () => {
  using folder = scratch();
  const cwd = folder.file("long".repeat(30));
  mkdirSync(cwd);
  const port = await freePort();
  const name = String(port).padStart(5, "0");
  await using _inetd = await ready("socketbox-inetd", [`./${name}`, "echo", "here"], { cwd });
  await using _server = await ready("socketbox", ["-US", "#//P_", "-p", String(port)], { cwd });
  expect(await ask(port, "127.0.0.1")).toBe("here\n");
});

testWith(root)("with -e the program runs as whom the file names", async () => {
  using folder = scratch();
  const file = folder.file("a.toml");
  writeFileSync(file, '[server]\nuser = 1234\ngroup = 1235\nworkers = 2\n[[route]]\nto = "deny"\n');
  const command = [bin("socketbox"), "-ef", file, "-p", String(await freePort()), "sh", "-c", "id -u; id -G"];
  expect(await run(command)).toEqual({ code: 0, out: "1234\n1235\n" });
});

testWith(root)("-u, -g, -G and -x each override what the file names", async () => {
  using folder = scratch();
  const file = folder.file("a.toml");
  writeFileSync(
    file,
    '[server]\nuser = 1234\ngroup = 1235\ngroups = [1236]\nchroot = "/proc"\n[[route]]\nto = "deny"\n',
  );
  const start = [bin("socketbox"), "-x", "/", "-ef", file, "-p", "0"];
  const ask = ["sh", "-c", "id -u; id -G"];
  for (const [words, out] of [
    [[], "1234\n1235 1236\n"],
    [["-u", "2234"], "2234\n1235 1236\n"],
    [["-g", "2235"], "1234\n2235 1236\n"],
    [["-G", "2236,2237"], "1234\n1235 2236 2237\n"],
  ] as const)
    expect(await run([...start, ...words, ...ask])).toEqual({ code: 0, out });
});

test("-e refuses a file of several listeners, for it passes one on", async () => {
  using folder = scratch();
  const file = folder.file("a.toml");
  const ports = [await freePort(), await freePort()].map((port) => `[[listen]]\nport = ${port}\n`);
  writeFileSync(file, `${ports.join("")}[[route]]\nto = "deny"\n`);
  const { code, out } = await run([bin("socketbox"), "-ef", file, "true"]);
  expect(out).toContain("-e passes one listener on, and ");
  expect(code).toBe(2);
});

test.each(["toml", "conf"])(
  "a folder for a configuration (.%s) is refused for what it is",
  async (extension) => {
    using folder = scratch();
    const file = folder.file(`a.${extension}`);
    mkdirSync(file);
    const { code, out } = await run([bin("socketbox"), "-p0", "-f", file]);
    expect(out).toEndWith(`socketbox: ${file}: error: it cannot be read: EISDIR (a folder)\n`);
    expect(code).toBe(1);
  },
);

test("in a folder that was removed, a relative path leads nowhere", async () => {
  using folder = scratch();
  mkdirSync(folder.file("gone"));
  const script = `cd gone && rmdir ../gone && exec "${bin("socketbox")}" check -f bun`;
  const { code, out } = await run(["sh", "-c", script], { cwd: folder.path });
  expect(out).toContain("/gone (deleted)/bun: error: it cannot be read: ENOENT");
  expect(code).toBe(1);
});

test("-P takes a registry in the abstract namespace", async () => {
  const { code, out } = await run([bin("socketbox"), "-S", "/a", "-P", "7:@nobody-registers-here"]);
  expect(out).toContain("register for slot 7 at @nobody-registers-here: ECONNREFUSED");
  expect(code).toBe(3);
});

test("a user that nobody is is refused before anything is bound", async () => {
  using folder = scratch();
  const file = folder.file("a.toml");
  const registry = folder.file("registry");
  writeFileSync(
    file,
    `[server]\nuser = "no-such-user"\n[[registry]]\npath = "${registry}"\nallow = [{ slot = 1 }]\n[[route]]\nto = "deny"\n`,
  );
  const { code, out } = await run([bin("socketbox"), "-p0", "-f", file]);
  expect(out).toEndWith('socketbox: there is no user "no-such-user"\n');
  expect(code).toBe(3);
  expect(existsSync(registry)).toBe(false);
});

test.each([
  [["-f", "none.conf", "-S", "@nobody"], "-S leaves -f without effect"],
  [["-Uf", "none.toml", "-i", "0"], "-i leaves -f, -U without effect"],
  [["-ezUb", "1", "-S", "@nobody", "true"], "-e leaves -S, -U, -b, -z without effect"],
])("%j: an option without effect is not passed over in silence", async (words, expected) => {
  const { out } = await run([bin("socketbox"), "-p", "0", "-u", "no such user", ...words]);
  expect(out).toContain(`: ${expected}\n`);
});

test("options that have their effect are no reason for a word", async () => {
  const words = ["-tFRrzb", "1", "-l", "::1", "-p", "0", "-S", "@nobody", "-U", "-u", "no such user"];
  const { out } = await run([bin("socketbox"), ...words]);
  expect(out).not.toContain("without effect");
});

test("-p replaces the listeners that routes name, and that is said", async () => {
  using folder = scratch();
  const file = folder.file("c.toml");
  const words = ["-p", "0", "-f", file, "-u", "no such user"];
  for (const [listener, said] of [
    ["a", true],
    ["main", false],
  ] as const) {
    writeFileSync(
      file,
      `[[listen]]\nname = "${listener}"\n[[route]]\nlistener = "${listener}"\nto = "deny"\n`,
    );
    const { out } = await run([bin("socketbox"), ...words]);
    expect(out.includes("routes that name one of them fit nothing")).toBe(said);
  }
});
