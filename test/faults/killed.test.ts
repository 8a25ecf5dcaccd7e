/** kill -9 of each process in turn: who loses what, and that nothing stays behind that a successor would mind. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { EXIT } from "../../src/programs/host.ts";
import { ANSWERS, pythonCommand } from "../kit/python.ts";
import { program, testWith } from "../kit/require.ts";
import { bin, freePort, Running, ready, scratch, settles } from "../kit/running.ts";
import { load, tool } from "../kit/tools.ts";
import { allServed, receiver, serverTo, totals } from "./kit.ts";

const python = program("python3");

/** Kills it, and waits until it has gone. */
async function kill(running: Running): Promise<void> {
  running.kill("SIGKILL");
  await running.ended();
}

/** Waits until so many lines of its log match. */
async function lines(running: Running, pattern: RegExp, count: number): Promise<void> {
  while ((running.log.match(pattern) ?? []).length < count) await Bun.sleep(5);
}

/** Processes whose command line names the folder: all that a test has started there. */
function alive(folder: string): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      return Number(pid) !== process.pid && command.includes(folder) ? [command] : [];
    } catch {
      return []; // not a process, or it has ended meanwhile
    }
  });
}

describe("kill -9", () => {
  test("of the server leaves nothing behind that its successor would mind", async () => {
    using folder = scratch();
    await using _receiver = await receiver(folder.file("r"));
    const port = await freePort();
    const file = folder.file("c.toml");
    writeFileSync(
      file,
      `[server]\nworkers = 2\n[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n` +
        `[[route]]\nto = "unix:${folder.file("r")}"\n[[registry]]\npath = "${folder.file("registry")}"\n` +
        `[[registry.allow]]\nslot = 1\n`,
    );
    const start = () => ready("socketbox", ["-f", file, "--takeover", folder.file("takeover")]);
    await using first = await start();
    await using registered = await ready("socketbox-inetd-p", [folder.file("registry"), "1", "true"]);
    expect(await load({ port, count: 100, atATime: 10 })).toMatchObject(allServed(100));
    await kill(first);
    expect(await registered.ended()).toBe(EXIT.peerGone);
    expect([existsSync(folder.file("registry")), existsSync(folder.file("takeover"))]).toEqual([true, true]);
    await using second = await start();
    await using again = await ready("socketbox-inetd-p", [folder.file("registry"), "1", "true"]);
    expect(await load({ port, count: 100, atATime: 10 })).toMatchObject(allServed(100));
    expect(await again.stop()).toBe(0);
    expect(await totals(second)).toEqual({ accepted: 100, delivered: 100 });
    expect(readdirSync(folder.path).sort()).toEqual(["c.toml", "r"]);
  });

  test("of socketbox-inetd leaves its children to their clients, and its path to its successor", async () => {
    using folder = scratch();
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const program = ["sh", "-c", "read word; echo k"];
    await using first = await ready("socketbox-inetd", [folder.file("r"), ...program]);
    const { promise: answer, resolve } = Promise.withResolvers<string>();
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: { data: (_, data) => resolve(data.toString()) },
    });
    await first.until(/start \d+/);
    await kill(first); // its child has the log's other end, too, and lives on
    const waiting = load({ port, count: 40, atATime: 40 });
    await server.until(/r: (?:connect|send): /);
    await using second = await ready("socketbox-inetd", [folder.file("r"), "echo", "k"]);
    expect(await waiting).toMatchObject(allServed(40));
    client.write("word\n");
    expect(await answer).toBe("k\n");
    client.end();
    await second.stop();
    expect(await totals(server)).toEqual({ accepted: 41, delivered: 41 });
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test("of one that has registered frees its slot, and what comes then is for the next", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = folder.file("c.toml");
    writeFileSync(
      file,
      `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n[[route]]\nto = "slot:1"\n` +
        `[[registry]]\npath = "${folder.file("registry")}"\n[[registry.allow]]\nslot = 1\n`,
    );
    await using server = await ready("socketbox", ["-f", file]);
    const register = () => ready("socketbox-inetd-p", [folder.file("registry"), "1", "echo", "k"]);
    await using first = await register();
    expect(await load({ port, count: 20, atATime: 5 })).toMatchObject(allServed(20));
    await kill(first);
    await server.until(/slot 1: has gone/);
    const waiting = load({ port, count: 40, atATime: 40 });
    await using second = await register();
    expect(await waiting).toMatchObject(allServed(40));
    expect(await second.stop()).toBe(0);
    expect(await totals(server)).toEqual({ accepted: 60, delivered: 60 });
  });

  testWith(python)(
    "of the relay ends what it carried, and what waits for it is for its successor",
    async () => {
      using folder = scratch();
      const { running, port } = await serverTo(folder.file("r"));
      await using server = running;
      const behind = await freePort();
      await using target = new Running(pythonCommand(ANSWERS, behind));
      await target.until(/ready/);
      const relay = () => ready("socketbox-relay", ["-s", folder.file("r"), "--to", `127.0.0.1:${behind}`]);
      await using first = await relay();
      expect(await load({ port, count: 100, atATime: 10 })).toMatchObject(allServed(100));
      // The target stands still, so that these are in the middle of it.
      target.kill("SIGSTOP");
      const carried = load({ port, count: 30, atATime: 30 });
      await lines(first, /^\d+ \[\S+ -> \S+$/gm, 130);
      await kill(first);
      const { served, closed, reset, refused, stuck } = await carried;
      expect({ served, refused, stuck, ended: closed + reset }).toEqual({
        served: 0,
        refused: 0,
        stuck: 0,
        ended: 30,
      });
      target.kill("SIGCONT");
      const waiting = load({ port, count: 40, atATime: 40 });
      await server.until(/r: (?:connect|send): /);
      await using second = await relay();
      expect(await waiting).toMatchObject(allServed(40));
      expect(await second.stop()).toBe(0);
      expect(await totals(server)).toEqual({ accepted: 170, delivered: 170 });
      expect(readdirSync(folder.path)).toEqual([]);
    },
  );

  testWith(python)(
    "of a daemon under the preload library loses nothing that waits for its successor",
    async () => {
      using folder = scratch();
      const { running, port } = await serverTo(folder.file("r"));
      await using server = running;
      const daemon = async () => {
        const map = ["--map", `8080=${folder.file("r")}`];
        const started = new Running([bin("socketbox-preload"), ...map, ...pythonCommand(ANSWERS, 8080)]);
        await started.until(/ready/);
        return started;
      };
      await using first = await daemon();
      expect(await load({ port, count: 100, atATime: 10 })).toMatchObject(allServed(100));
      await kill(first);
      const waiting = load({ port, count: 40, atATime: 40 });
      await server.until(/r: (?:connect|send): /);
      await using second = await daemon();
      expect(await waiting).toMatchObject(allServed(40));
      await kill(second);
      expect(await totals(server)).toEqual({ accepted: 140, delivered: 140 });
      // The path is all that stays, and the next one that binds it replaces it.
      expect(readdirSync(folder.path)).toEqual(["r"]);
      await using _third = await receiver(folder.file("r"));
    },
  );

  test("of everything at once leaves no process", async () => {
    using folder = scratch();
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const program = ["sh", "-c", `: ${folder.path}; read word; echo k`];
    await using inetd = await ready("socketbox-inetd", [folder.file("r"), ...program]);
    await using clients = new Running([tool("test/kit/load.c"), String(port), "20", "20"]);
    await lines(inetd, / start \d+/g, 20);
    await Promise.all([kill(server), kill(inetd)]);
    // The clients still have their programs, and these end with them.
    expect(alive(folder.path).length).toBe(20);
    await clients.stop();
    expect(JSON.parse(clients.out)).toMatchObject({ ...allServed(0), stuck: 20 });
    await settles(() => alive(folder.path).length, 0);
  });
});
