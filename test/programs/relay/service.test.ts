/** The relay as a service: a socket that the manager keeps for it, and what it says of its state. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { serverTo } from "../../faults/kit.ts";
import { FakeManager, passing } from "../../kit/passed.ts";
import { ANSWERS, pythonCommand } from "../../kit/python.ts";
import { program, root, testWith } from "../../kit/require.ts";
import { ask, bin, freePort, Running, ready, scratch } from "../../kit/running.ts";
import { boundUnix } from "../../kit/sockets.ts";
import { load } from "../../kit/tools.ts";
import { named } from "./kit.ts";

testWith(program("python3"))("a kept mailbox hands what waits from one relay to the next", async () => {
  using folder = scratch();
  const box = folder.file("box");
  using kept = boundUnix(box);
  using manager = new FakeManager(folder.file("notify"));
  const behind = await freePort();
  await using target = new Running(pythonCommand(ANSWERS, behind));
  await target.until(/ready/);
  const { running, port } = await serverTo(box);
  await using _server = running;
  const start = () =>
    passing("socketbox-relay", ["-s", box, "--to", `127.0.0.1:${behind}`], [["box", kept.number]], {
      env: manager.env,
    });
  let done = false;
  const outcome = load({ port, count: 3_000, atATime: 32 }).finally(() => {
    done = true;
  });
  for (let times = 1; times <= 3 || !done; times++) {
    await using relay = start();
    await relay.until(/: ready: /);
    if (times < 10) await Bun.sleep(100);
    else await outcome;
    expect(await relay.stop()).toBe(0);
    expect(existsSync(box)).toBe(true);
  }
  expect(await outcome).toMatchObject({ served: 3_000, closed: 0, reset: 0, refused: 0, stuck: 0 });
  await manager.until(/^READY=1$/);
  await manager.until(/^STOPPING=1$/);
});

describe("--from-uid", () => {
  testWith(root)("takes connections from that user, and drops what others send", async () => {
    using folder = scratch();
    const box = folder.file("box");
    const [port, behind] = [await freePort(), await freePort()];
    using _target = named("served", behind);
    await using _server = await ready("socketbox", ["-l", "::ffff:127.0.0.1", "-p", String(port), "-S", box]);
    const to = ["-s", box, "--to", `127.0.0.1:${behind}`];
    {
      await using relay = await ready("socketbox-relay", [...to, "--from-uid", "65534"]);
      expect(await ask(port, "127.0.0.1")).toBe("");
      await relay.until(/relay: dropped a message: it does not come from whom --from-uid names/);
      expect(await relay.stop()).toBe(0);
      expect(relay.log).toContain("relay: 0 taken, 0 running");
    }
    await using _relay = await ready("socketbox-relay", [...to, "--from-uid", "0"]);
    expect(await ask(port, "127.0.0.1")).toBe("served");
  });

  test("that nobody has is refused before anything is opened", async () => {
    using folder = scratch();
    await using relay = new Running([
      bin("socketbox-relay"),
      ...["-s", folder.file("box"), "--from-uid", "no-such-user"],
    ]);
    expect(await relay.ended()).not.toBe(0);
    expect(relay.log).toContain("no-such-user");
    expect(existsSync(folder.file("box"))).toBe(false);
  });
});
