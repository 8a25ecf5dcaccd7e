/** What goes in comes out: every byte, every end, every reset, in both directions. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { listen } from "../../../src/io/listener.ts";
import { SOCK } from "../../../src/io/socket.ts";
import { program, testWith } from "../../kit/require.ts";
import {
  ask,
  bin,
  descriptors,
  freePort,
  ROOT,
  Running,
  ready,
  scratch,
  settles,
  until,
} from "../../kit/running.ts";
import { boundUnix } from "../../kit/sockets.ts";
import { ended, ends, endsRunning, lines, relayed } from "./kit.ts";

/** MB in each direction and kind; the 10 GB are bench/relay's. */
const LARGE_MB = process.env.SOCKETBOX_LONG ? "2500" : "40";
const SHORT = "10000";

function memory(pid: number): number {
  return Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}

function openSockets(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((fd) => {
    try {
      return readlinkSync(join(folder, fd)).startsWith("socket:");
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

describe("a relayed connection", () => {
  testWith(program("python3"))(
    "carries every byte, whichever side ends first, and ends each half",
    async () => {
      await using between = await relayed();
      const open = descriptors(between.relay.pid);
      expect(await ends("large", between, LARGE_MB)).toBe("good");
      await ended(between.relay, 4);
      const bytes = Number(LARGE_MB) * 1_000_000;
      const target = `to [::ffff:127.0.0.1]:${between.target}`;
      expect(await ended(between.relay, 1)).toEqual([
        `closed; ${target}; ${bytes} bytes up, ${bytes / 2} down`,
        `closed; ${target}; ${bytes / 2} bytes up, ${bytes} down`,
        `closed; ${target}; ${bytes} bytes up, ${bytes} down`,
        `closed; ${target}; 0 bytes up, 0 down`,
      ]);
      // Three pipes at most stay for the next connection.
      await until(
        () => descriptors(between.relay.pid) <= open + 6,
        () => `${descriptors(between.relay.pid)} are open, at first ${open}`,
      );
      expect(await between.relay.stop()).toBe(0);
    },
  );

  testWith(program("python3"))("is one of thousands, each of them whole", async () => {
    await using between = await relayed();
    const open = descriptors(between.relay.pid);
    expect(await ends("short", between, SHORT)).toBe("good");
    expect(await between.relay.stop()).toBe(0);
    expect(between.relay.log).toContain(`relay: ${SHORT} taken, 0 running, ${SHORT} closed`);
    expect(open).toBeLessThan(40);
  });

  testWith(program("python3"))("forwards a single byte at once, and none waits for another", async () => {
    await using between = await relayed();
    expect(await ends("ping", between, "2000")).toBe("good");
  });

  testWith(program("python3"))(
    "that is never still holds up neither others, nor signals, nor time",
    async () => {
      await using between = await relayed(["--drain", "200ms"]);
      const { relay } = between;
      await using both = endsRunning("crowded", between, "100");
      await both.until(/^answered$/m);
      await ended(relay, 101);
      relay.kill("SIGUSR1");
      await relay.until(/relay: 102 taken, 1 running, 101 closed/);
      expect(await relay.stop()).toBe(0);
      expect((await ended(relay, 102)).at(-1)).toStartWith("shutdown; ");
      await both.until(/^good$/m);
    },
  );

  testWith(program("python3"))(
    "logs its beginning in the original's form, and its end with all that is known",
    async () => {
      await using between = await relayed();
      expect(await ends("ping", between, "3")).toBe("good");
      await ended(between.relay, 1);
      const flow = `[::ffff:127.0.0.1]:C -> [::ffff:127.0.0.1]:${between.port}`;
      expect(lines(between.relay)).toEqual([
        flow,
        `${flow} end: closed; to [::ffff:127.0.0.1]:${between.target}; 3 bytes up, 3 down`,
      ]);
      expect(between.relay.log).toMatch(
        /^\d{10} \[::ffff:127\.0\.0\.1\]:\d+ -> \[::ffff:127\.0\.0\.1\]:\d+$/m,
      );
    },
  );

  testWith(program("python3"))("logs as JSON when it is told to", async () => {
    await using between = await relayed(["--log", "json"]);
    expect(await ends("ping", between, "3")).toBe("good");
    await between.relay.until(/"event":"end"/);
    const [start, end] = between.relay.log
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    const { time, remotePort } = start;
    expect(Math.abs(time - Date.now() / 1000)).toBeLessThan(60);
    const flow = {
      relay: "relay",
      remote: "127.0.0.1",
      remotePort,
      local: "127.0.0.1",
      localPort: between.port,
    };
    expect(start).toEqual({ time, event: "start", ...flow });
    expect(end).toEqual({
      time: end.time,
      event: "end",
      ...flow,
      target: `[::ffff:127.0.0.1]:${between.target}`,
      ending: "closed",
      up: 3,
      down: 3,
      seconds: end.seconds,
    });
    expect(end.time).toBeGreaterThanOrEqual(time);
    expect(end.seconds).toBeGreaterThanOrEqual(0);
  });

  test("as JSON says why there is no target", async () => {
    await using between = await relayed(["--log", "json"]);
    await ask(between.port, "127.0.0.1");
    const [line] = await between.relay.until(/^\{.*"event":"end".*\}$/m);
    expect(JSON.parse(line)).toMatchObject({
      ending: "connect-failed",
      detail: `[::ffff:127.0.0.1]:${between.target} ECONNREFUSED`,
      up: 0,
      down: 0,
    });
    expect(JSON.parse(line)).not.toHaveProperty("target");
  });

  testWith(program("python3"))("passes a client's reset on as a reset", async () => {
    await using between = await relayed();
    expect(await ends("client-resets", between)).toBe("good");
    expect(await ended(between.relay, 1)).toEqual([
      `client-reset (ECONNRESET); to [::ffff:127.0.0.1]:${between.target}; 14 bytes up, 0 down`,
    ]);
  });

  describe("delivers the answer of a target that resets at once", () => {
    const ways: Record<string, (port: number) => readonly string[]> = {
      "the first that is tried": (port) => ["--to", `127.0.0.1:${port}`],
      "one that is tried after another": (port) => ["--to", `127.0.0.1:1,127.0.0.1:${port}`, "--retry", "0"],
      "one with a name": (port) => ["--to", `localhost:${port}`],
      "one that is to get a PROXY header": (port) => ["--to", `127.0.0.1:${port}`, "--send-proxy", "v2"],
      "one with a name that is to get one": (port) => ["--to", `localhost:${port}`, "-i"],
    };
    for (const [way, args] of Object.entries(ways))
      testWith(program("python3"))(way, async () => {
        const target = await freePort();
        await using between = await relayed(args(target));
        expect(await ends("target-answers-and-resets", { ...between, target }, "200")).toBe("good");
        const whys = (await ended(between.relay, 200)).map((line) => line.split(";")[0]);
        expect(new Set(whys)).toEqual(new Set(["target-reset (ECONNRESET)"]));
      });

    for (const kind of ["TCP", "Unix"])
      testWith(program("python3"), program("strace"))(
        `one that has reset before it gets its PROXY header, over ${kind}`,
        async () => {
          using folder = scratch();
          const where = kind === "TCP" ? [] : [folder.file("s")];
          await using between = await relayed(kind === "TCP" ? ["-i"] : ["-i", "-u", where[0]!]);
          const late = ["-e", "trace=write", "-e", "inject=write:delay_enter=200000"];
          await using strace = new Running(["strace", "-f", "-p", String(between.relay.pid), ...late]);
          await strace.until(/attached/);
          expect(await ends("target-answers-and-resets", between, "3", ...where)).toBe("good");
          const whys = (await ended(between.relay, 3)).map((line) => line.split(";")[0]);
          for (const why of whys) expect(why).toMatch(/^target-reset \((ECONNRESET|EPIPE)\)$/);
        },
      );

    testWith(program("python3"))("one at a Unix path that is to get a PROXY header", async () => {
      using folder = scratch();
      await using between = await relayed(["-u", folder.file("s"), "-i"]);
      expect(await ends("target-answers-and-resets", between, "200", folder.file("s"))).toBe("good");
      const whys = (await ended(between.relay, 200)).map((line) => line.split(";")[0]);
      // It has read nothing of what it was sent (unix(7)); or was gone before anything was.
      for (const why of whys) expect(why).toMatch(/^target-reset \((ECONNRESET|EPIPE)\)$/);
    });
  });

  testWith(program("python3"))("passes a target's reset on as a reset", async () => {
    await using between = await relayed();
    expect(await ends("target-resets", between)).toBe("good");
    expect(await ended(between.relay, 1)).toEqual([
      `target-reset (ECONNRESET); to [::ffff:127.0.0.1]:${between.target}; 0 bytes up, 14 down`,
    ]);
  });

  testWith(program("python3"))(
    "passes the reset of a target that reads nothing on as nothing else",
    async () => {
      await using between = await relayed();
      expect(await ends("full-target-resets", between)).toBe("good");
      expect((await ended(between.relay, 1))[0]).toStartWith("target-reset (ECONNRESET); ");
    },
  );

  for (const kind of ["TCP", "Unix"])
    testWith(program("python3"))(
      `is whole whatever hundreds of others do, with a ${kind} target`,
      async () => {
        using folder = scratch();
        const [port, path] = [await freePort(), folder.file("s")];
        const to = kind === "TCP" ? ["--to", `127.0.0.1:${port}`] : ["-u", path];
        await using between = await relayed(to);
        const sockets = openSockets(between.relay.pid);
        const soak = join(ROOT, "test/programs/relay/soak.py");
        const where = kind === "TCP" ? String(port) : path;
        await using running = new Running(["python3", soak, String(between.port), where, "1", "200"]);
        await running.ended();
        expect(running.log.trim()).toBe("good");
        await ended(between.relay, 200);
        await settles(() => openSockets(between.relay.pid), sockets);
      },
    );

  testWith(program("python3"))("delivers an answer that comes before the reset", async () => {
    await using between = await relayed();
    expect(await ends("target-refuses-more", between)).toBe("good");
  });

  testWith(program("python3"))("keeps an urgent byte urgent, and in its place", async () => {
    await using between = await relayed();
    expect(await ends("urgent", between)).toBe("good");
    await between.relay.until(/end: closed.*; 12 bytes up/);
  });

  testWith(program("python3"))("carries on what follows an urgent byte in the same piece", async () => {
    await using between = await relayed();
    expect(await ends("urgent-and-more", between)).toBe("good");
  });

  for (const kind of ["TCP", "Unix"])
    testWith(program("python3"))(`loses no byte beside an urgent one, with a ${kind} target`, async () => {
      using folder = scratch();
      await using between = await relayed(kind === "TCP" ? [] : ["-u", folder.file("s")]);
      const where = kind === "TCP" ? [] : [folder.file("s")];
      expect(await ends("urgent-often", between, "100", ...where)).toBe("good");
    });

  testWith(program("python3"), program("prlimit"))(
    "loses no byte beside an urgent one where there is no pipe",
    async () => {
      await using between = await relayed([], {
        command: (words) => ["prlimit", "--nofile=40:40", "--", ...words],
      });
      expect(await ends("urgent-often", between, "50")).toBe("good");
    },
  );

  testWith(program("python3"))("ends and is reset though whoever handed it over still holds it", async () => {
    using folder = scratch();
    const [box, target] = [folder.file("box"), await freePort()];
    await using relay = await ready("socketbox-relay", ["-s", box, "--to", `127.0.0.1:${target}`]);
    expect(await ends("kept", { port: 0, target }, box)).toBe("good");
    expect((await ended(relay, 2)).map((line) => line.split(";")[0])).toEqual([
      "closed",
      "target-reset (ECONNRESET)",
    ]);
  });

  testWith(program("python3"))(
    "carries what a Unix client sent that has closed before the target is reached",
    async () => {
      using folder = scratch();
      const [path, target] = [folder.file("s"), await freePort()];
      using listener = boundUnix(path, SOCK.stream);
      listen(listener, 16);
      await using relay = new Running([bin("socketbox-relay"), "-l", "3", "--to", `127.0.0.1:${target}`], {
        stdio: [listener.number],
      });
      await relay.until(/: ready: /);
      expect(await ends("unix-client-closes", { port: 0, target }, path)).toBe("good");
      expect((await ended(relay, 1))[0]).toStartWith("closed; ");
    },
  );

  testWith(program("python3"))("holds memory flat and one pipe for a target that does not read", async () => {
    await using between = await relayed();
    expect(await ends("ping", between, "2000")).toBe("good");
    const before = { memory: memory(between.relay.pid), descriptors: descriptors(between.relay.pid) };
    await using stuck = endsRunning("stuck", between, "20");
    await stuck.until(/^stuck$/m);
    expect(memory(between.relay.pid) - before.memory).toBeLessThan(16);
    // Two sockets and one pipe for each, and a spare one.
    expect(descriptors(between.relay.pid)).toBeLessThanOrEqual(before.descriptors + 20 * 4 + 4);
    stuck.kill("SIGUSR1");
    expect(await stuck.ended()).toBe(0);
    await ended(between.relay, 21);
  });

  testWith(program("python3"))("holds memory flat and no pipe for those who write slowly", async () => {
    await using between = await relayed();
    expect(await ends("ping", between, "2000")).toBe("good");
    const before = { memory: memory(between.relay.pid), descriptors: descriptors(between.relay.pid) };
    await using slow = endsRunning("slow", between, "50");
    await slow.until(/^slow$/m);
    expect(memory(between.relay.pid) - before.memory).toBeLessThan(16);
    // Two sockets for each.
    expect(descriptors(between.relay.pid)).toBeLessThanOrEqual(before.descriptors + 50 * 2 + 4);
    slow.kill("SIGUSR1");
    expect(await slow.ended()).toBe(0);
    await ended(between.relay, 51);
  });
});
