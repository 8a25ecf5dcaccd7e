/** A log that goes to a pipe. */
import { expect, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { EXIT } from "../../src/programs/host.ts";
import { program, testWith } from "../kit/require.ts";
import { bin, freePort, must, run, scratch } from "../kit/running.ts";

testWith(program("mkfifo"))(
  "a log that nobody reads holds a server up once, then its lines are lost, counted, and said to be",
  async () => {
    using folder = scratch();
    const pipe = folder.file("pipe");
    await must(["mkfifo", pipe]);
    const stderr = openSync(pipe, "r+");
    // Each of these is worth two warnings, host bits and a route before it that takes all; a pipe takes 65536 bytes.
    const routes = Array.from(
      { length: 1000 },
      (_, i) => `[[route]]\nlocal = "2001:db8::${i + 1}/64"\nto = "deny"\n`,
    );
    const configuration = folder.file("many.toml");
    writeFileSync(configuration, routes.join(""));
    const port = await freePort();
    const server = Bun.spawn([bin("socketbox"), "-f", configuration, "-p", String(port)], {
      stdio: ["ignore", "ignore", stderr],
    });
    while (!listens(port)) await Bun.sleep(20);
    const head = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const full = drain(head);
    server.kill("SIGTERM");
    expect(await server.exited).toBe(0);
    const log = drain(head);
    closeSync(head);
    closeSync(stderr);
    expect(full.length).toBeGreaterThan(50_000);
    // That it is ready comes as soon as it listens, and may be lost or not.
    const end =
      /^.*: (\d+) lines of this log were lost: they could not be written\n(.*: ready: .*\n)?.*: stopped: /;
    const [, lost, ready] = end.exec(log)!;
    // Whole warnings, a part of one, and the line that says it is ready.
    expect(full.split("\n").length + Number(lost) + (ready ? 1 : 0)).toBeWithin(2001, 2004);
  },
);

test("an answer that cannot be written is a failure; a log that cannot be is none", async () => {
  const lost = await run(["sh", "-c", `exec "${bin("socketbox")}" --help >/dev/full`]);
  expect(lost.out).toEndWith("socketbox: write to standard output: ENOSPC (no space left)\n");
  expect(lost.code).toBe(EXIT.system);
  const head = await run(["bash", "-c", `"${bin("socketbox")}" --help | :; exit "\${PIPESTATUS[0]}"`]);
  expect(head).toEqual({ code: EXIT.ok, out: "" });
  const refused = await run(["sh", "-c", `exec "${bin("socketbox")}" chekc 2>/dev/full`]);
  expect(refused).toEqual({ code: EXIT.usage, out: "" });
});

/** What is in the pipe. */
function drain(fd: number): string {
  const bytes = Buffer.alloc(4096);
  let text = "";
  for (;;) {
    try {
      text += bytes.toString("utf8", 0, readSync(fd, bytes));
    } catch {
      return text; // nothing more just now
    }
  }
}

/** Whether somebody listens on that port of every address (proc(5), /proc/net/tcp). */
function listens(port: number): boolean {
  const local = `0{32}:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return new RegExp(` ${local} [0-9A-F:]+ 0A `).test(readFileSync("/proc/net/tcp6", "utf8"));
}
