/** What can go wrong with a target or a client, what the client sees of it, and what the log says. */
import { describe, expect, test } from "bun:test";
import { program, testWith } from "../../kit/require.ts";
import { ask, must, Running, scratch } from "../../kit/running.ts";
import { Client, ended, endings, ends, named, relayed, target } from "./kit.ts";

const python = program("python3");

describe("a target", () => {
  test("that is down ends the connection, and the next one finds it when it is up", async () => {
    await using between = await relayed();
    expect(await ask(between.port, "127.0.0.1", "hello")).toBe("");
    const address = `[::ffff:127.0.0.1]:${between.target}`;
    expect(await ended(between.relay, 1)).toEqual([
      `connect-failed (${address} ECONNREFUSED); no target; 0 bytes up, 0 down`,
    ]);
    using _up = named("up", between.target);
    expect(await ask(between.port, "127.0.0.1")).toBe("up");
  });

  testWith(python)("that never answers is given up after --connect-timeout", async () => {
    await using between = await relayed(["--connect-timeout", "200ms"]);
    await using _full = await target("full", between.target);
    expect(await ask(between.port, "127.0.0.1", "hello")).toBe("");
    expect(await ended(between.relay, 1)).toEqual([
      `connect-timeout ([::ffff:127.0.0.1]:${between.target} ETIMEDOUT); no target; 0 bytes up, 0 down`,
    ]);
  });

  testWith(python)("that is slow to accept gets the connection, and what was sent meanwhile", async () => {
    await using between = await relayed();
    await using full = await target("full", between.target);
    using client = new Client(between.port);
    client.send("hello");
    await between.relay.until(/^\d+ \[/m);
    full.kill("SIGUSR1");
    await client.hears("welcome");
    client.finish();
    expect(await ended(between.relay, 1)).toEqual([
      `closed; to [::ffff:127.0.0.1]:${between.target}; 5 bytes up, 7 down`,
    ]);
  });

  testWith(python)("whose Unix socket has a full backlog is tried until there is room", async () => {
    using folder = scratch();
    await using full = await target("full", folder.file("s"));
    await using between = await relayed(["-u", folder.file("s")]);
    using client = new Client(between.port);
    await between.relay.until(/^\d+ \[/m);
    await Bun.sleep(50); // some attempts
    expect(endings(between.relay)).toEqual([]);
    full.kill("SIGUSR1");
    await client.hears("welcome");
  });

  testWith(python)("whose backlog stays full is given up", async () => {
    using folder = scratch();
    await using _full = await target("full", folder.file("s"));
    await using between = await relayed(["-u", folder.file("s"), "--connect-timeout", "100ms"]);
    expect(await ask(between.port, "127.0.0.1")).toBe("");
    expect(await ended(between.relay, 1)).toEqual([
      `connect-timeout (unix:${folder.file("s")} backlog full); no target; 0 bytes up, 0 down`,
    ]);
  });

  testWith(python)("that is killed resets its connections, and touches no other", async () => {
    await using between = await relayed();
    await using silent = await target("silent", between.target);
    using client = new Client(between.port);
    client.send("unread");
    await silent.until(/heard/);
    silent.kill("SIGKILL");
    expect(await client.ends()).toBe("reset");
    expect(await ended(between.relay, 1)).toEqual([
      `target-reset (ECONNRESET); to [::ffff:127.0.0.1]:${between.target}; 6 bytes up, 0 down`,
    ]);
    using _successor = named("successor", between.target);
    expect(await ask(between.port, "127.0.0.1")).toBe("successor");
  });
});

describe("a client", () => {
  testWith(python)("that resets before the target is reached is forgotten", async () => {
    await using between = await relayed();
    await using _full = await target("full", between.target);
    const reset = `
import socket, struct
s = socket.create_connection(("127.0.0.1", ${between.port}))
s.send(b"x")
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()`;
    await must(["python3", "-c", reset]);
    expect(await ended(between.relay, 1)).toEqual([
      "client-reset (before the target was reached); no target; 0 bytes up, 0 down",
    ]);
  });
});

describe("out of descriptors", () => {
  testWith(program("prlimit"))(
    "receiving pauses, and every connection is served when there is room",
    async () => {
      await using between = await relayed(["--connect-timeout", "1s"], {
        command: (words) => ["prlimit", "--nofile=40:40", "--", ...words],
      });
      using target = named("served", between.target);
      const clients = Array.from({ length: 60 }, () => new Client(between.port));
      await between.relay.until(/pausing: EMFILE; connections wait/);
      expect(target.open).toBeLessThan(20);
      // Nobody is taken who would then want for a descriptor, until he is given up.
      await Bun.sleep(1500);
      const served = clients.map(async (client) => {
        await client.hears("served");
        client.finish();
        return client.ends();
      });
      expect(await Promise.all(served)).toEqual(Array(60).fill("end"));
      await ended(between.relay, 60);
      expect(new Set(endings(between.relay).map((line) => line.split(";")[0]))).toEqual(new Set(["closed"]));
      expect(await ask(between.port, "127.0.0.1")).toBe("served");
      for (const client of clients) client[Symbol.dispose]();
    },
  );

  testWith(python, program("prlimit"))("data moves without a pipe", async () => {
    // Enough for both sockets, and for no pipe: the relay copies instead.
    await using between = await relayed([], {
      command: (words) => ["prlimit", "--nofile=40:40", "--", ...words],
    });
    expect(await ends("large", between, "3")).toBe("good");
  });

  for (const [nth, whose] of [
    [1, "client"],
    [2, "target"],
  ] as const)
    testWith(program("strace"))(
      `a ${whose} that nothing can watch yet is served when it can be`,
      async () => {
        await using between = await relayed();
        using _target = named("served", between.target);
        // The next descriptors that are to be watched are the client's and the target's.
        const inject = ["-e", "trace=epoll_ctl", "-e", `inject=epoll_ctl:error=ENOSPC:when=${nth}`];
        await using strace = new Running(["strace", "-f", "-p", String(between.relay.pid), ...inject]);
        await strace.until(/attached/);
        expect(await ask(between.port, "127.0.0.1")).toBe("served");
        expect(strace.log).toContain("ENOSPC");
        if (whose === "client") await between.relay.until(/pausing: ENOSPC; connections wait/);
        expect(await ended(between.relay, 1)).toEqual([
          `closed; to [::ffff:127.0.0.1]:${between.target}; 0 bytes up, 6 down`,
        ]);
      },
    );
});
