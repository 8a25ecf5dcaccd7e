/** Where connections come from: a slot of a server that goes and comes back, and sockets that somebody passes. */
import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { LISTENER_DEFAULTS } from "../../../src/config/configuration.ts";
import type { Fd } from "../../../src/io/fd.ts";
import { bindListener, listen } from "../../../src/io/listener.ts";
import { parseAddress } from "../../../src/model/address.ts";
import { EXIT } from "../../../src/programs/host.ts";
import { passing } from "../../kit/passed.ts";
import { pythonCommand } from "../../kit/python.ts";
import { program, testWith } from "../../kit/require.ts";
import { ask, bin, freePort, must, Running, ready, scratch } from "../../kit/running.ts";
import { boundUnix } from "../../kit/sockets.ts";
import { ended, fromFile, named } from "./kit.ts";

type Scratch = ReturnType<typeof scratch>;

/** A server on 127.0.0.1:`port` that sends everything to slot 7 of its registry. */
function server(folder: Scratch, port: number, allowed = 7): Promise<Running> {
  const file = folder.file("server.toml");
  const text = `
[[listen]]
address = "127.0.0.1"
port = ${port}
[[registry]]
path = "${folder.file("registry")}"
[[registry.allow]]
slot = ${allowed}
[[route]]
to = "slot:7"
`;
  writeFileSync(file, text);
  return ready("socketbox", ["-f", file]);
}

describe("a slot", () => {
  test.each(["in a file", "of the command line"])(
    "%s is taken anew when its server has gone and is back",
    async (how) => {
      using folder = scratch();
      const [port, other, behind] = [await freePort(), await freePort(), await freePort()];
      using _target = named("served", behind);
      const first = await server(folder, port);
      const slot = `7:${folder.file("registry")}`;
      const to = `127.0.0.1:${behind}`;
      const text = `[[relay]]\nfrom = "slot:${slot}"\nto = "${to}"\n[[relay]]\nfrom = "fd:3"\nto = "${to}"\n`;
      const file = folder.file("relay.toml");
      await using relay =
        how === "in a file"
          ? await fromFile(file, text, other)
          : await ready("socketbox-relay", ["--register", slot, "--to", to]);
      expect(await ask(port, "127.0.0.1")).toBe("served");
      first.kill("SIGKILL");
      await first.ended();
      await relay.until(/: the server has gone; registering anew as soon as it can be/);
      if (how === "in a file") {
        // Whose server is away is no reason to refuse a reload; and the other relay works.
        relay.kill("SIGHUP");
        await relay.until(/reloaded/);
        expect(await ask(other, "127.0.0.1")).toBe("served");
      }
      await using _second = await server(folder, port);
      await relay.until(/: registered again/);
      expect(await ask(port, "127.0.0.1")).toBe("served");
      expect(relay.log.match(/registering anew/g)).toHaveLength(how === "in a file" ? 2 : 1);
      expect(await relay.stop()).toBe(EXIT.ok);
    },
  );

  test("that the server refuses now is asked for again, and told once", async () => {
    using folder = scratch();
    const [port, behind] = [await freePort(), await freePort()];
    using _target = named("served", behind);
    const first = await server(folder, port);
    const args = ["--register", `7:${folder.file("registry")}`, "--to", `127.0.0.1:${behind}`];
    await using relay = await ready("socketbox-relay", args);
    await first.stop();
    const second = await server(folder, port, 8);
    await relay.until(/: the server refused; registering anew as soon as it can be/);
    await Bun.sleep(1200);
    expect(relay.log.match(/the server refused/g)).toHaveLength(1);
    await second.stop();
    await using _third = await server(folder, port);
    await relay.until(/: registered again/);
    expect(await ask(port, "127.0.0.1")).toBe("served");
  });

  test("whose server is away holds up no end", async () => {
    using folder = scratch();
    const [port, behind] = [await freePort(), await freePort()];
    const first = await server(folder, port);
    const args = ["--register", `7:${folder.file("registry")}`, "--to", `127.0.0.1:${behind}`];
    await using relay = await ready("socketbox-relay", [...args, "--drain", "10m"]);
    await first.stop();
    await relay.until(/the server has gone/);
    expect(await relay.stop()).toBe(EXIT.ok);
  });
});

function listener(port: number): Fd {
  const fd = bindListener({ ...LISTENER_DEFAULTS, address: parseAddress("127.0.0.1")!, port });
  listen(fd, 16);
  return fd;
}

describe("a passed socket", () => {
  test.each(["-l", "from"])("is found by its name (%s)", async (how) => {
    using folder = scratch();
    const [one, two, behind] = [await freePort(), await freePort(), await freePort()];
    using _target = named("served", behind);
    using other = listener(one);
    using web = listener(two);
    const file = folder.file("relay.toml");
    writeFileSync(file, `[[relay]]\nfrom = "systemd:web"\nto = "127.0.0.1:${behind}"\n`);
    const args = how === "from" ? ["--config", file] : ["-l", "systemd:web", "--to", `127.0.0.1:${behind}`];
    await using relay = passing("socketbox-relay", args, [
      ["other", other.number],
      ["web", web.number],
    ]);
    await relay.until(/: ready: .*systemd:web to /);
    expect(await ask(two, "127.0.0.1")).toBe("served");
    expect(await relay.stop()).toBe(EXIT.ok);
  });

  test.each([
    ["nobody", "there is none of that name"],
    ["twice", "2 have that name"],
  ])("called %s is refused: %s", async (name, why) => {
    const [one, two] = [await freePort(), await freePort()];
    using first = listener(one);
    using second = listener(two);
    await using relay = passing(
      "socketbox-relay",
      ["-l", `systemd:${name}`],
      [
        ["twice", first.number],
        ["twice", second.number],
      ],
    );
    expect(await relay.ended()).toBe(EXIT.system);
    expect(relay.log).toContain(`passed socket ${name}: ${why}`);
  });

  test.each(["fd:3", "systemd:box"])("that receives (%s) works on for the next relay", async (from) => {
    using folder = scratch();
    const [port, behind, box] = [await freePort(), await freePort(), folder.file("box")];
    using _target = named("served", behind);
    using kept = boundUnix(box);
    await using _server = await ready("socketbox", ["-l", "127.0.0.1", "-p", String(port), "-S", box]);
    const file = folder.file("relay.toml");
    writeFileSync(file, `[[relay]]\nfrom = "${from}"\nto = "127.0.0.1:${behind}"\n`);
    for (let round = 0; round < 2; round++) {
      await using relay = passing("socketbox-relay", ["--config", file], [["box", kept.number]]);
      await relay.until(/: ready: /);
      expect(await ask(port, "127.0.0.1")).toBe("served");
      expect(await relay.stop()).toBe(EXIT.ok);
    }
  });
});

test("a path that was bound is gone again, whenever the signal comes", async () => {
  using folder = scratch();
  const path = folder.file("s");
  for (const wait of [0, 2, 4]) {
    await using relay = new Running([bin("socketbox-relay"), "-s", path]);
    while (!existsSync(path)) await Bun.sleep(0);
    await Bun.sleep(wait);
    expect([wait, await relay.stop()]).toEqual([wait, EXIT.ok]);
    expect(existsSync(path)).toBe(false);
  }
});

describe("an inherited socket", () => {
  testWith(program("python3"))("that is connected, and whose peer has gone, spoils no reload", async () => {
    using folder = scratch();
    const [port, behind, file] = [await freePort(), await freePort(), folder.file("relay.toml")];
    using _target = named("served", behind);
    const text = (fd: number) => `[[relay]]\nfrom = "fd:${fd}"\nto = "127.0.0.1:${behind}"\n`;
    writeFileSync(file, text(23) + text(24));
    const start = `
import os, socket, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(theirs.fileno(), 23), os.dup2(listener.fileno(), 24)
os.execv(sys.argv[2], sys.argv[2:])`;
    const words = pythonCommand(start, port, bin("socketbox-relay"), "--config", file);
    await using relay = new Running(words);
    await relay.until(/fd:23: the server has gone/);
    relay.kill("SIGHUP");
    await relay.until(/reloaded: /);
    expect(await ask(port, "127.0.0.1")).toBe("served");
    expect(await relay.stop()).toBe(EXIT.peerGone);
  });

  testWith(program("python3"))(
    "may bring what is no socket, if that is not looked at; it is named",
    async () => {
      using folder = scratch();
      const box = folder.file("box");
      const env = { SKBOX_STRICT_STREAM_MODE: "0" };
      await using relay = await ready("socketbox-relay", ["-s", box, "--to", "127.0.0.1:9"], { env });
      const send = `
import array, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
file = open("/etc/passwd")
s.sendmsg([b"\\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])`;
      await must(pythonCommand(send, box));
      expect(await ended(relay, 1)).toEqual(["unusable (EPERM); no target; 0 bytes up, 0 down"]);
    },
  );
});
