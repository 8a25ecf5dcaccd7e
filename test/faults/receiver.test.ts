/** Receivers that stop, die, leave, are slow or full: how many connections are served, and how many lost. */
import { describe, expect, test } from "bun:test";
import { renameSync, writeFileSync } from "node:fs";
import { program, testWith } from "../kit/require.ts";
import { bin, freePort, Running, ready, scratch } from "../kit/running.ts";
import { load, tool } from "../kit/tools.ts";
import { allServed, RECEIVER_QUEUE, receiver, serverTo, totals } from "./kit.ts";

describe("a receiver under load", () => {
  test("that stands still for three seconds loses no connection", async () => {
    using folder = scratch();
    await using slow = await receiver(folder.file("r"));
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    slow.kill("SIGSTOP");
    const clients = load({ port, count: 5000, atATime: 200 });
    await Bun.sleep(3000);
    slow.kill("SIGCONT");
    expect(await clients).toMatchObject(allServed(5000));
    expect(await totals(server)).toEqual({ accepted: 5000, delivered: 5000 });
  });

  test("that is killed and started again loses at most its queue, and what it was serving", async () => {
    using folder = scratch();
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const kills = 4;
    const clients = load({ port, count: 10_000, atATime: 64 });
    for (let i = 0; i < kills; i++) {
      await using dying = await receiver("-d", "100", folder.file("r"));
      await Bun.sleep(300);
      dying.kill("SIGKILL");
      await dying.ended();
    }
    await using _last = await receiver(folder.file("r"));
    const { served, closed, reset, refused, stuck } = await clients;
    expect({ refused, stuck, all: served + closed + reset }).toEqual({ refused: 0, stuck: 0, all: 10_000 });
    expect(closed + reset).toBeLessThanOrEqual(kills * (RECEIVER_QUEUE + 1));
    expect(await totals(server)).toEqual({ accepted: 10_000, delivered: 10_000 });
  });

  test("that leaves politely and comes back, again and again, loses none", async () => {
    using folder = scratch();
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const clients = load({ port, count: 10_000, atATime: 64 });
    for (let i = 0; i < 5; i++) {
      await using leaving = await receiver("-d", "100", folder.file("r"));
      await Bun.sleep(200);
      expect(await leaving.stop()).toBe(0);
    }
    await using _last = await receiver(folder.file("r"));
    expect(await clients).toMatchObject(allServed(10_000));
    expect(await totals(server)).toEqual({ accepted: 10_000, delivered: 10_000 });
  });

  test("whose successor is renamed over it is left for the successor", async () => {
    using folder = scratch();
    await using old = await receiver("-b", "o", folder.file("r"));
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    expect((await load({ port, count: 100, atATime: 10 })).by).toEqual({ o: 100 });
    await using young = await receiver("-b", "y", folder.file("next"));
    renameSync(folder.file("next"), folder.file("r"));
    // While traffic flows the path is looked at ten times a second; the old one lives on, and gets no more.
    for (;;) {
      const { by, served } = await load({ port, count: 100, atATime: 10 });
      expect(served).toBe(100);
      if (by.y === 100) break;
    }
    expect([old.log, young.log]).toEqual(["ready\n", "ready\n"]);
    await totals(server);
  });

  testWith(program("python3"))("whose socket somebody keeps loses only what it was serving", async () => {
    using folder = scratch();
    writeFileSync(folder.file("keeper.py"), KEEPER);
    const kills = 5;
    const command = ["python3", folder.file("keeper.py"), folder.file("r"), tool("test/kit/receiver.c")];
    await using keeper = new Running([...command, String(kills)]);
    await keeper.until(/ready/);
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const { served, closed, reset, refused, stuck } = await load({ port, count: 10_000, atATime: 64 });
    await keeper.until(/killed all/);
    expect({ refused, stuck, all: served + closed + reset }).toEqual({ refused: 0, stuck: 0, all: 10_000 });
    expect(closed + reset).toBeLessThanOrEqual(kills);
    expect(await totals(server)).toEqual({ accepted: 10_000, delivered: 10_000 });
  });

  test("that takes a millisecond each serves a thousand clients who come at once", async () => {
    using folder = scratch();
    await using _slow = await receiver("-d", "1000", folder.file("r"));
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    expect(await load({ port, count: 1000, atATime: 1000 })).toMatchObject(allServed(1000));
    expect(await totals(server)).toEqual({ accepted: 1000, delivered: 1000 });
  });

  test("whose descriptor table is full takes the rest when it has room again", async () => {
    using folder = scratch();
    const inetd = ["sh", "-c", 'ulimit -n 48; exec "$@"', "sh", bin("socketbox-inetd"), folder.file("r")];
    const script = `while [ ! -e ${folder.file("go")} ]; do sleep 0.05; done; echo k`;
    await using full = new Running([...inetd, "sh", "-c", script]);
    await full.until(/ready/);
    const { running, port } = await serverTo(folder.file("r"));
    await using server = running;
    const clients = load({ port, count: 200, atATime: 200 });
    await full.until(/pausing: EMFILE/);
    writeFileSync(folder.file("go"), "");
    expect(await clients).toMatchObject(allServed(200));
    expect(await totals(server)).toEqual({ accepted: 200, delivered: 200 });
  });

  test("that never takes anything keeps its queue; the rest waits, and is given up by number and by age", async () => {
    using folder = scratch();
    await using _hostile = await receiver("-n", "0", folder.file("r"));
    const port = await freePort();
    const config = folder.file("c.toml");
    writeFileSync(
      config,
      `[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n[[route]]\nto = "target:t"\n` +
        `[target.t]\nto = "unix:${folder.file("r")}"\nqueue = 50\nwait = 1\n`,
    );
    await using server = await ready("socketbox", ["-f", config]);
    const count = RECEIVER_QUEUE + 50 + 39;
    expect(
      await load({ port, count, atATime: count, options: ["-l", String(RECEIVER_QUEUE)] }),
    ).toMatchObject({
      served: 0,
      closed: 50 + 39,
      stuck: RECEIVER_QUEUE,
    });
    expect(await totals(server)).toEqual({
      accepted: count,
      delivered: RECEIVER_QUEUE,
      "queue-full": 39,
      timeout: 50,
    });
  });
});

/** Keeps the socket, as a service manager does, while it kills the receiver and starts the next. */
const KEEPER = `
import ctypes, os, signal, socket, subprocess, sys, time
path, receiver, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
mailbox.bind(path)
os.set_inheritable(mailbox.fileno(), True)
def end_with_keeper():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL) # PR_SET_PDEATHSIG
def start():
    command = [receiver, "-d", "100", "-i", str(mailbox.fileno())]
    return subprocess.Popen(command, close_fds=False, preexec_fn=end_with_keeper)
child = start()
for _ in range(kills):
    time.sleep(0.2)
    child.kill()
    child.wait()
    child = start()
print("killed all", flush=True)
child.wait()
`;
