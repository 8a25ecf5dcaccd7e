/** SIGHUP: what can change changes at once, what cannot is refused whole, and no connection notices. */
import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { receiver } from "../faults/kit.ts";
import { lowPorts, program, root, testWith } from "../kit/require.ts";
import {
  ask,
  bin,
  descriptors,
  freePort,
  must,
  PATIENCE_MS,
  Running,
  ready,
  scratch,
  settles,
} from "../kit/running.ts";
import { accepted } from "../kit/sockets.ts";
import { load } from "../kit/tools.ts";

function write(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

/** SIGHUP, and the line that says what became of it. */
async function reload(server: Running): Promise<string> {
  const before = server.log.length;
  server.kill("SIGHUP");
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = /(?:not reloaded|reloaded|no configuration)[^\n]*(?:\n\S+:\d+:\d+: [^\n]*)*\n/.exec(
      server.log.slice(before),
    );
    if (found) return found[0].trimEnd();
    if (Date.now() > end) throw new Error(`no answer to SIGHUP:\n${server.log}`);
    await Bun.sleep(2);
  }
}

const listen = (name: string, port: number) => `[[listen]]\nname = "${name}"\nport = ${port}\n`;
const route = (to: string, more = "") => `[[route]]\n${more}to = "${to}"\n`;

testWith(program("mkfifo"))(
  "SIGHUP before the server is ready ends nothing, and is not forgotten",
  async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    await must(["mkfifo", file]);
    await using server = new Running([bin("socketbox"), "-f", file]);
    // Opening the other end succeeds once the server has opened its own. More than a pipe holds goes through only while
    // somebody reads; the end, without which there is no configuration, comes when the signal has been sent.
    const fifo = await patiently("ENXIO", () => openSync(file, constants.O_WRONLY | constants.O_NONBLOCK));
    let text = Buffer.from(`${listen("web", port) + route("deny")}#${" ".repeat(1 << 20)}\n`);
    while (text.length > 0) text = text.subarray(await patiently("EAGAIN", () => writeSync(fifo, text)));
    server.kill("SIGHUP");
    write(file, listen("web", port) + route("deny", "port = 1\n") + route("deny"));
    closeSync(fifo);
    await server.until(/: ready: [\s\S]*reloaded: \+1 route/);
    expect(await server.stop()).toBe(0);
  },
);

/** Tries until it works, as long as it fails with this code. */
async function patiently<Result>(code: string, attempt: () => Result): Promise<Result> {
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== code) throw error;
      await Bun.sleep(2);
    }
  }
}

describe("a reload", () => {
  test("says what has changed, and changes nothing when nothing has", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    const file = folder.file("c.toml");
    const target = (to: string, queue: number) => `[target.web]\nto = "unix:${to}"\nqueue = ${queue}\n`;
    write(file, listen("web", port) + route("target:web") + target("/run/one", 10));
    await using server = await ready("socketbox", ["-f", file]);
    expect(await reload(server)).toBe("reloaded: nothing changed");
    write(
      file,
      listen("web", port) + route("deny", "port = 81\n") + route("target:web") + target("/run/two", 20),
    );
    expect(await reload(server)).toBe("reloaded: +1 route, target web now unix:/run/two queue 20");
    const pool =
      '[target.web]\nto = ["unix:/run/two", "unix:/run/three"]\nbalance = "source-hash"\nspread = true\n';
    write(file, listen("web", port) + route("deny", "port = 81\n") + route("target:web") + pool);
    expect(await reload(server)).toBe(
      "reloaded: target web now unix:/run/two and unix:/run/three balance source-hash spread queue 1024",
    );
    write(file, listen("web", port) + listen("ssh", other) + route("unix:/run/other"));
    expect(await reload(server)).toBe(`reloaded: +listener ssh [::]:${other}, +1 route, -2`);
    write(file, listen("web", port) + route("unix:/run/other"));
    expect(await reload(server)).toBe(`reloaded: -listener ssh [::]:${other}`);
  });

  test("of a target's receivers keeps what waits for those that stay, and gives the rest to those it has now", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    const target = (names: string, more = "") =>
      listen("web", port) +
      route("target:web") +
      `[target.web]\nto = [${[...names].map((name) => JSON.stringify(`unix:${folder.file(name)}`))}]\n${more}`;
    write(file, target("ab"));
    await using server = await ready("socketbox", ["-f", file]);
    const waiting = load({ port, count: 40, atATime: 40 });
    await server.until(/a\): connect: ENOENT[\s\S]*b\): connect: ENOENT/);
    await settles(() => accepted(port), 40);
    await using _a = await receiver("-b", "a", folder.file("a.other"));
    await using _c = await receiver("-b", "c", folder.file("c"));
    write(file, target("ac"));
    expect(await reload(server)).toMatch(/^reloaded: target web now unix:\S*a and unix:\S*c$/);
    renameSync(folder.file("a.other"), folder.file("a"));
    // Of the 20 that waited for b each has half.
    expect((await waiting).by).toEqual({ a: 30, c: 10 });
    expect((await load({ port, count: 40, atATime: 1 })).by).toEqual({ a: 20, c: 20 });
    write(file, target("c"));
    expect(await reload(server)).toMatch(/^reloaded: target web now unix:\S*c$/);
    expect((await load({ port, count: 40, atATime: 1 })).by).toEqual({ c: 40 });
    expect(await server.stop()).toBe(0);
    expect(server.log).toMatch(/stopped: 120 accepted, 120 delivered\n/);
  });

  test("leaves no descriptor behind, however often listeners and targets come and go", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    const file = folder.file("c.toml");
    await using _a = await receiver("-b", "a", folder.file("a"));
    const first = listen("web", port) + route(`unix:${folder.file("a")}`);
    const second = listen("web", port) + listen("more", other) + route(`unix:${folder.file("b")}`);
    write(file, first);
    await using server = await ready("socketbox", ["-f", file]);
    expect(await ask(port, "127.0.0.1")).toBe("a");
    await reload(server);
    const before = descriptors(server.pid);
    for (let i = 0; i < 20; i++) {
      write(file, i % 2 ? first : second);
      await reload(server);
    }
    expect(await ask(port, "127.0.0.1")).toBe("a");
    await settles(() => descriptors(server.pid), before);
  });

  test("refuses a bad file whole, with its faults, and goes on with the old", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _a = await receiver("-b", "a", folder.file("a"));
    const file = folder.file("c.toml");
    write(file, listen("web", port) + route(`unix:${folder.file("a")}`));
    await using server = await ready("socketbox", ["-f", file]);
    write(file, `${listen("web", port)}[[route]]\nto = "nowhere"\n`);
    const answer = await reload(server);
    expect(answer).toStartWith("not reloaded, and all is as before: the configuration is refused");
    expect(answer).toContain(`${file}:5:6: error:`);
    expect(await ask(port, "127.0.0.1")).toBe("a");
    rmSync(file);
    expect(await reload(server)).toContain("not reloaded, and all is as before: ");
    expect(await ask(port, "127.0.0.1")).toBe("a");
  });

  test("refuses another [server], and a listener that cannot be bound, as a restart's work", async () => {
    using folder = scratch();
    const [port, taken] = [await freePort(), await freePort()];
    await using _a = await receiver("-b", "a", folder.file("a"));
    const to = route(`unix:${folder.file("a")}`);
    const file = folder.file("c.toml");
    write(file, listen("web", port) + to);
    await using server = await ready("socketbox", ["-f", file]);
    expect(await ask(port, "127.0.0.1")).toBe("a");
    const before = descriptors(server.pid);
    write(file, `[server]\nworkers = 2\n${listen("web", port)}${to}`);
    expect(await reload(server)).toBe(
      "not reloaded, and all is as before: restart needed: [server] has changed",
    );
    using _other = Bun.listen({ hostname: "::", port: taken, socket: { data() {} } });
    write(file, listen("web", port) + listen("free", await freePort()) + listen("more", taken) + to);
    expect(await reload(server)).toContain(`restart needed: bind [::]:${taken}: EADDRINUSE`);
    await settles(() => descriptors(server.pid), before);
    expect(await ask(port, "127.0.0.1")).toBe("a");
  });

  test("keeps what waits, and lets the old target go when it has delivered", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    write(file, listen("web", port) + route(`unix:${folder.file("late")}`));
    await using server = await ready("socketbox", ["-f", file]);
    const waiting = load({ port, count: 50, atATime: 50 });
    await server.until(/its connections wait/);
    await using _b = await receiver("-b", "b", folder.file("b"));
    write(file, listen("web", port) + route(`unix:${folder.file("b")}`));
    await reload(server);
    expect(await ask(port, "127.0.0.1")).toBe("b");
    await using _late = await receiver("-b", "l", folder.file("late"));
    const outcome = await waiting;
    expect(outcome.served).toBe(50);
    expect((outcome.by.l ?? 0) + (outcome.by.b ?? 0)).toBe(50);
    expect(outcome.by.l).toBeGreaterThan(0);
  });

  test("accepts the backlog of a listener that it removes: nobody is reset", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    await using _a = await receiver("-b", "a", folder.file("a"));
    const to = route(`unix:${folder.file("a")}`);
    const file = folder.file("c.toml");
    const both = listen("web", port) + listen("more", other) + to;
    write(file, both);
    await using server = await ready("socketbox", ["-f", file]);
    for (let round = 0; round < 5; round++) {
      const running = load({ port: other, count: 3_000, atATime: 64 });
      await Bun.sleep(20);
      write(file, listen("web", port) + to);
      await reload(server);
      const { served, refused, closed, reset, stuck } = await running;
      expect({ sum: served + refused, closed, reset, stuck }).toEqual({
        sum: 3_000,
        closed: 0,
        reset: 0,
        stuck: 0,
      });
      write(file, both);
      await reload(server);
    }
  });

  test("while accepting pauses adds a listener that pauses too, and is served when accepting goes on", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    const file = folder.file("c.toml");
    const text = listen("web", port) + route(`unix:${folder.file("late")}`);
    write(file, text);
    const start = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", bin("socketbox"), "-f", file];
    await using server = new Running(start);
    await server.until(/: ready: /);
    const clients = load({ port, count: 200, atATime: 200 });
    await server.until(/accepting pauses/);
    write(file, text + listen("other", other));
    expect(await reload(server)).toContain("reloaded: +listener other");
    const more = load({ port: other, count: 10, atATime: 10 });
    await using _late = await receiver("-b", "k", folder.file("late"));
    for (const outcome of [await clients, await more])
      expect(outcome).toMatchObject({ closed: 0, reset: 0, stuck: 0 });
    expect(await server.stop()).toBe(0);
    expect(server.log).toContain("stopped: 210 accepted, 210 delivered");
  });

  test("of a server that has been told to stop is refused: it would listen, and serve nobody", async () => {
    using folder = scratch();
    const [port, other] = [await freePort(), await freePort()];
    const file = folder.file("c.toml");
    const text = listen("web", port) + route(`unix:${folder.file("late")}`);
    write(file, text);
    await using server = await ready("socketbox", ["-f", file]);
    const waiting = ask(port, "127.0.0.1");
    await server.until(/its connections wait/);
    server.kill("SIGTERM");
    await Bun.sleep(100); // until it has heard
    write(file, text + listen("other", other));
    expect(await reload(server)).toBe("not reloaded: the server stops");
    await using _late = await receiver("-b", "k", folder.file("late"));
    expect(await waiting).toBe("k");
    expect(await server.ended()).toBe(0);
  });

  test("without a configuration there is nothing to reload, and the server goes on", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _a = await receiver("-b", "a", folder.file("a"));
    await using server = await ready("socketbox", ["-p", String(port), "-S", folder.file("a")]);
    expect(await reload(server)).toBe("no configuration to reload");
    expect(await ask(port, "127.0.0.1")).toBe("a");
  });

  testWith(root, lowPorts)("asks for a restart where it would need a privilege that is gone", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o755);
    const port = await freePort();
    const file = folder.file("c.toml");
    const head = '[server]\nuser = "nobody"\n';
    write(file, head + listen("web", port) + route("deny"));
    await using server = await ready("socketbox", ["-f", file]);
    write(file, head + listen("web", port) + listen("low", 81) + route("deny"));
    expect(await reload(server)).toContain("restart needed: bind [::]:81: EACCES");
    // A file that only root may read can be rewritten in place, and not be replaced.
    chmodSync(file, 0o600);
    writeFileSync(file, head + listen("web", port) + route("unix:/run/x"));
    expect(await reload(server)).toBe("reloaded: +1 route, -1");
    write(file, head + listen("web", port) + route("unix:/run/y"));
    chmodSync(file, 0o600);
    expect(await reload(server)).toContain(`restart needed: EACCES`);
  });

  testWith(root)("under a chroot reads what is written in place, and says when it cannot", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o755);
    mkdirSync(folder.file("jail"));
    const port = await freePort();
    const file = folder.file("c.toml");
    const head = `[server]\nuser = "nobody"\nchroot = "${folder.file("jail")}"\n`;
    write(file, head + listen("web", port) + route("deny"));
    await using server = await ready("socketbox", ["-f", file]);
    writeFileSync(file, head + listen("web", port) + route("unix:/x") + route("deny"));
    expect(await reload(server)).toBe("reloaded: +1 route");
    write(file, head + listen("web", port) + route("deny"));
    expect(await reload(server)).toContain(
      `restart needed: ${file} was replaced, and the chroot hides the new one`,
    );
  });
});

test("a server that has registered with another (-P) keeps its slot over a reload, and serves it", async () => {
  using folder = scratch();
  const port = await freePort();
  const registry = folder.file("registry");
  const outer = folder.file("outer.toml");
  const allow = `[[registry]]\npath = "${registry}"\n[[registry.allow]]\nslot = 1\n`;
  write(outer, listen("a", port) + allow + route("slot:1"));
  const inner = folder.file("inner.toml");
  write(inner, route(`unix:${folder.file("a")}`));
  await using _a = await receiver("-b", "a", folder.file("a"));
  await using _b = await receiver("-b", "b", folder.file("b"));
  await using _outer = await ready("socketbox", ["-f", outer]);
  await using server = await ready("socketbox", ["-P", `1:${registry}`, "-f", inner]);
  expect(await ask(port, "127.0.0.1")).toBe("a");
  write(inner, route(`unix:${folder.file("b")}`));
  expect(await reload(server)).toContain("reloaded: ");
  expect(await ask(port, "127.0.0.1")).toBe("b");
  expect(await reload(server)).toContain("reloaded: nothing changed");
  expect(await ask(port, "127.0.0.1")).toBe("b");
});
