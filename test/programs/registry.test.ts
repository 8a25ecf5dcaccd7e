/** Registration: receivers come to the server, and get a slot's connections, if they may. */
import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, statSync, writeFileSync } from "node:fs";
import { Fd } from "../../src/io/fd.ts";
import { SOCK } from "../../src/io/socket.ts";
import { cString, native } from "../../src/native/library.ts";
import { EXIT } from "../../src/programs/host.ts";
import { encodeRegistration } from "../../src/wire/registration.ts";
import { program, root, testWith } from "../kit/require.ts";
import {
  ask,
  bin,
  descriptors,
  freePort,
  PATIENCE_MS,
  Running,
  ready,
  run,
  scratch,
  settles,
} from "../kit/running.ts";
import { load } from "../kit/tools.ts";

type Scratch = ReturnType<typeof scratch>;

function configuration(folder: Scratch, port: number, registry: string, more = ""): string {
  const file = folder.file("c.toml");
  const text = `
    ${more}
    [[listen]]
    port = ${port}
    [[route]]
    to = "slot:web"
    [slots]
    web = 7
    other = 8
    [[registry]]
    path = "${folder.file("registry")}"
    ${registry}`;
  writeFileSync(file, text.replace(/^ +/gm, ""));
  return file;
}

const anyone = '[[registry.allow]]\nslot = ["web", "other"]\n';

/** A receiver with that slot, which answers each connection with `word`. */
function holder(folder: Scratch, slot: number, word: string, user?: string): Promise<Running> {
  const args = [folder.file("registry"), String(slot), "/bin/echo", word];
  if (!user) return ready("socketbox-inetd-p", args);
  const command = ["setpriv", "--reuid", user, "--clear-groups", bin("socketbox-inetd-p"), ...args];
  const running = new Running(command);
  return running.until(/: ready: /).then(() => running);
}

/** A client of the registry, in this process. */
class Client implements Disposable {
  readonly fd: Fd;

  constructor(folder: Scratch) {
    const path = cString(folder.file("registry"));
    this.fd = Fd.from(native.sb_connect_unix(path, SOCK.seqpacket), "connect");
  }

  send(bytes: Uint8Array): void {
    native.sb_write(this.fd.number, bytes, bytes.length);
  }

  /** What the server says; an empty text is the end. */
  async hear(): Promise<string> {
    const buffer = new Uint8Array(64);
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await Bun.sleep(2)) {
      const length = native.sb_read(this.fd.number, buffer, buffer.length);
      if (length >= 0) return buffer.subarray(0, length).toHex();
    }
    throw new Error("the server says nothing");
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}

describe("a slot", () => {
  test("is served by whoever has registered for it, and is free again when that goes", async () => {
    using folder = scratch();
    const port = await freePort();
    await using server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    expect(statSync(folder.file("registry")).mode & 0o777).toBe(0o660);
    await using one = await holder(folder, 7, "one");
    expect(await ask(port, "127.0.0.1")).toBe("one\n");
    const refused = await run([bin("socketbox-inetd-p"), folder.file("registry"), "7", "/bin/true"]);
    expect(refused.out).toContain("the server refused");
    await server.until(/asks for slot 7, which is taken/);
    await one.stop();
    await server.until(/slot 7: has gone/);
    await using _two = await holder(folder, 7, "two");
    expect(await ask(port, "127.0.0.1")).toBe("two\n");
    expect(await server.stop()).toBe(0);
    expect(existsSync(folder.file("registry"))).toBe(false);
  });

  test("without a holder keeps its connections for the next one", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    const asked = Promise.all(Array.from({ length: 20 }, () => ask(port, "127.0.0.1")));
    await Bun.sleep(100);
    await using _late = await holder(folder, 7, "late");
    expect(await asked).toEqual(Array(20).fill("late\n"));
  });

  test("is handed over without a gap where takeover is allowed", async () => {
    using folder = scratch();
    const port = await freePort();
    const registry = `${anyone}takeover = true\n`;
    await using server = await ready("socketbox", ["-f", configuration(folder, port, registry)]);
    const running = [await holder(folder, 7, "a")];
    const outcome = load({ port, count: 3_000, atATime: 16 });
    for (const word of ["b", "c", "d"]) {
      await Bun.sleep(150);
      running.push(await holder(folder, 7, word));
    }
    expect(await outcome).toMatchObject({ served: 3_000, closed: 0, reset: 0, refused: 0, stuck: 0 });
    for (const left of running.slice(0, -1)) expect(await left.ended()).toBe(11);
    await server.until(/(?:hands slot 7 over[\s\S]*){3}/);
    expect(await ask(port, "127.0.0.1")).toBe("d\n");
    for (const one of running) await one[Symbol.asyncDispose]();
  });

  test("is served over one socket by several acceptors", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = configuration(folder, port, anyone, "[server]\nworkers = 2");
    await using server = await ready("socketbox", ["-f", file]);
    await using _one = await holder(folder, 7, "x");
    expect(await load({ port, count: 2_000, atATime: 32 })).toMatchObject({ served: 2_000 });
    expect(await server.stop()).toBe(0);
    expect(server.log).toContain("2000 accepted, 2000 delivered");
  });

  testWith(root, program("setpriv"))("goes only to the users that may have it", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o755);
    const port = await freePort();
    const registry = 'mode = "0666"\n[[registry.allow]]\nslot = 7\nuser = ["daemon", 65534]\n';
    await using server = await ready("socketbox", ["-f", configuration(folder, port, registry)]);
    await expect(holder(folder, 7, "root")).rejects.toThrow("the server refused");
    await expect(holder(folder, 7, "games", "games")).rejects.toThrow("the server refused");
    await expect(holder(folder, 8, "daemon", "daemon")).rejects.toThrow("the server refused");
    await server.until(/(?:may not take slot[\s\S]*){3}/);
    await using _one = await holder(folder, 7, "daemon", "daemon");
    expect(await ask(port, "127.0.0.1")).toBe("daemon\n");
  });

  testWith(root)("has a registry with the owner, group and mode that are asked for", async () => {
    using folder = scratch();
    const port = await freePort();
    const registry = `mode = "0620"\nowner = "daemon"\ngroup = 12\n${anyone}`;
    await using _server = await ready("socketbox", ["-f", configuration(folder, port, registry)]);
    const { uid, gid, mode } = statSync(folder.file("registry"));
    expect([uid, gid, mode & 0o777]).toEqual([1, 12, 0o620]);
  });
});

describe("a registry", () => {
  test("answers 80 00 00 00, and ends the registration at the first word after it", async () => {
    using folder = scratch();
    const port = await freePort();
    await using server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    using client = new Client(folder);
    client.send(encodeRegistration(7));
    expect(await client.hear()).toBe("80000000");
    client.send(Uint8Array.of(1));
    expect(await client.hear()).toBe("");
    await server.until(/slot 7: sent something after its request/);
    await using _next = await holder(folder, 7, "next");
    expect(await ask(port, "127.0.0.1")).toBe("next\n");
  });

  test("closes on whoever sends no registration, too long a one, or one for another slot", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    const good = encodeRegistration(7);
    for (const bad of [
      good.subarray(0, 7),
      Uint8Array.of(...good, 0),
      Uint8Array.of(2, ...good.subarray(1)),
      Uint8Array.of(1, 1, ...good.subarray(2)),
      encodeRegistration(9),
      new Uint8Array(4000),
    ]) {
      using client = new Client(folder);
      client.send(bad);
      expect(await client.hear()).toBe("");
    }
  });

  test("lets one user have five connections, and a sixth when one of them has gone", async () => {
    using folder = scratch();
    const port = await freePort();
    await using server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    using clients = new DisposableStack();
    const five = Array.from({ length: 5 }, () => clients.use(new Client(folder)));
    five[0]!.send(encodeRegistration(7));
    expect(await five[0]!.hear()).toBe("80000000");
    using sixth = new Client(folder);
    expect(await sixth.hear()).toBe("");
    await server.until(/has 5 registrations already/);
    five[1]!.fd.close();
    for (let tries = 0; ; tries++) {
      using another = new Client(folder);
      another.send(encodeRegistration(8));
      if ((await another.hear()) === "80000000") break;
      expect(tries).toBeLessThan(100);
    }
  });

  test("gives up on whoever does not say what it wants", async () => {
    using folder = scratch();
    const port = await freePort();
    await using server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    await using one = await holder(folder, 7, "one");
    expect(await ask(port, "127.0.0.1")).toBe("one\n");
    await one.stop();
    await server.until(/slot 7: has gone/);
    const before = descriptors(server.pid);
    using client = new Client(folder);
    expect(await client.hear()).toBe("");
    await server.until(/has not said what it wants/);
    await settles(() => descriptors(server.pid), before);
  });

  test("can be added, changed and removed by a reload", async () => {
    using folder = scratch();
    const port = await freePort();
    const file = configuration(folder, port, anyone);
    await using server = await ready("socketbox", ["-f", file]);
    await using one = await holder(folder, 7, "one");
    configuration(folder, port, "[[registry.allow]]\nslot = 8\n");
    server.kill("SIGHUP");
    await server.until(/reloaded: registry \S+ has other rules/);
    await server.until(/slot 7: is no longer allowed/);
    expect(await one.ended()).toBe(11);
    writeFileSync(file, `[[listen]]\nport = ${port}\n[[route]]\nto = "slot:7"\n`);
    server.kill("SIGHUP");
    await server.until(/reloaded: -registry/);
    expect(existsSync(folder.file("registry"))).toBe(false);
    configuration(folder, port, anyone);
    server.kill("SIGHUP");
    await server.until(/reloaded: \+registry/);
    await using _two = await holder(folder, 7, "two");
    expect(await ask(port, "127.0.0.1")).toBe("two\n");
  });
});

describe("a chain", () => {
  test("of servers hands every connection on, and each end of it notices when the one before goes", async () => {
    using folder = scratch();
    const port = await freePort();
    await using server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    const inner = folder.file("inner.toml");
    const to = (name: string) => `to = "unix:${folder.file(name)}"\n`;
    writeFileSync(inner, `[[route]]\nlocal = "127.0.0.2"\n${to("two")}[[route]]\n${to("rest")}`);
    await using second = await ready("socketbox", ["-P", `7:${folder.file("registry")}`, "-f", inner]);
    await using _two = await ready("socketbox-inetd", [folder.file("two"), "/bin/echo", "two"]);
    await using _rest = await ready("socketbox-inetd", [folder.file("rest"), "/bin/echo", "rest"]);
    expect(await ask(port, "127.0.0.2")).toBe("two\n");
    expect(await ask(port, "127.0.0.3")).toBe("rest\n");
    expect(await load({ port, count: 1_000, atATime: 32 })).toMatchObject({ served: 1_000 });
    await server.stop();
    expect(await second.ended()).toBe(11);
  });

  test("whose second server restarts loses nothing", async () => {
    using folder = scratch();
    const port = await freePort();
    await using _server = await ready("socketbox", ["-f", configuration(folder, port, anyone)]);
    const args = ["-P", `7:${folder.file("registry")}`, "-S", folder.file("box")];
    await using _box = await ready("socketbox-inetd", [folder.file("box"), "/bin/echo", "x"]);
    const outcome = (async () => {
      await Bun.sleep(50);
      return load({ port, count: 2_000, atATime: 32 });
    })();
    for (let round = 0; round < 4; round++) {
      await using second = await ready("socketbox", args);
      await Bun.sleep(150);
      expect(await second.stop()).toBe(0);
    }
    await using _last = await ready("socketbox", args);
    expect(await outcome).toMatchObject({ served: 2_000, closed: 0, reset: 0, stuck: 0 });
  });
});

describe("the path of a registry", () => {
  test("is taken away when the server is told to stop before it is ready", async () => {
    using folder = scratch();
    const registry = folder.file("registry");
    await using server = new Running([bin("socketbox"), "-f", configuration(folder, 0, anyone)]);
    while (!existsSync(registry)) await Bun.sleep(0);
    expect(await server.stop()).toBe(0);
    expect(existsSync(registry)).toBe(false);
  });

  test("is taken away when the server cannot go on after it was bound", async () => {
    using folder = scratch();
    const file = configuration(folder, 0, anyone);
    writeFileSync(file, '[[route]]\nport = 1\nto = "fd:77"\n', { flag: "a" });
    const { code, out } = await run([bin("socketbox"), "-f", file]);
    expect(out).toContain("descriptor 77 is not an inherited Unix socket");
    expect(code).toBe(EXIT.refused);
    expect(existsSync(folder.file("registry"))).toBe(false);
  });

  testWith(root, program("setpriv"))("is taken away when it cannot have the owner it should", async () => {
    using folder = scratch();
    chmodSync(folder.path, 0o777);
    const file = configuration(folder, 0, `owner = "root"\n${anyone}`);
    const command = ["setpriv", "--reuid", "nobody", "--clear-groups", bin("socketbox"), "-f", file];
    const { code, out } = await run(command);
    expect(out).toContain(`owner of ${folder.file("registry")}: EPERM`);
    expect(code).toBe(EXIT.system);
    expect(existsSync(folder.file("registry"))).toBe(false);
  });

  testWith(root)("stays where the server may no longer remove it, and that is said", async () => {
    using folder = scratch();
    const user = await ready("socketbox", ["-u", "nobody", "-f", configuration(folder, 0, anyone)]);
    await using _user = user;
    expect(await user.stop()).toBe(0);
    const stays = "; whoever binds it next takes it over";
    expect(user.log).toContain(`remove ${folder.file("registry")}: EACCES${stays}`);
    await using jailed = await ready("socketbox", ["-x", "/proc", "-f", configuration(folder, 0, anyone)]);
    expect(await jailed.stop()).toBe(0);
    expect(jailed.log).toContain(`remove ${folder.file("registry")}: ENOENT${stays}`);
  });
});
