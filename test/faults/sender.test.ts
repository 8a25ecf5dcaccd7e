/** Messages that a hostile process puts into a receiver's mailbox, which its mode lets it. */
import { expect } from "bun:test";
import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { ANSWERS, pythonCommand } from "../kit/python.ts";
import { program, testWith } from "../kit/require.ts";
import { descriptors, freePort, Running, ready, run, scratch, settles } from "../kit/running.ts";

testWith(program("python3"))("socketbox-inetd drops every message that brings no connection", async () => {
  using folder = scratch();
  await using inetd = await ready("socketbox-inetd", [folder.file("r"), "echo", "served"]);
  const before = descriptors(inetd.pid);
  writeFileSync(folder.file("sender.py"), SENDER);
  const { code, out } = await run(["python3", folder.file("sender.py"), folder.file("r")]);
  expect({ code, out }).toEqual({ code: 0, out: "unix stream: served\n64 KiB: served\nof 253: served\n" });
  await inetd.until(/(?:end \d+[\s\S]*){3}/);
  await settles(() => descriptors(inetd.pid), before);
  const dropped = (reason: string) => inetd.log.split(`dropped a message: ${reason}`).length - 1;
  expect(dropped("there is no socket in it")).toBe(3); // payloads alone, and an empty datagram
  expect(dropped("what is in it is not a connection")).toBe(4); // a file, a datagram socket, two listeners
  expect(await inetd.stop()).toBe(0);
});

const SENDER = `
import os, socket, sys, tempfile
path = sys.argv[1]
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
out.connect(path)
file = tempfile.TemporaryFile()
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener = socket.create_server(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
local.bind("\\0" + path + "-listener")
local.listen()

out.send(b"x" * 20)
out.send(b"x" * 65536)
out.send(b"")
for wrong in file, datagram, listener, local:
    socket.send_fds(out, [b"\\0"], [wrong.fileno()])

def answer(name, end):
    end.settimeout(60)
    print(name + ":", end.makefile().read().strip(), flush=True)

def passed(payload, others=()):
    mine, theirs = socket.socketpair()
    socket.send_fds(out, [payload], [theirs.fileno(), *others])
    theirs.close()
    return mine

answer("unix stream", passed(b"\\0"))
answer("64 KiB", passed(b"y" * 65536))
answer("of 253", passed(b"\\0", [file.fileno()] * 252))
`;

testWith(program("python3"))("so does the relay", async () => {
  using folder = scratch();
  const behind = await freePort();
  await using target = new Running(pythonCommand(ANSWERS, behind));
  await target.until(/ready/);
  await using relay = await ready("socketbox-relay", [
    ...["-s", folder.file("r")],
    ...["--to", `127.0.0.1:${behind}`],
  ]);
  const before = sockets(relay.pid);
  writeFileSync(folder.file("sender.py"), SENDER);
  const { code, out } = await run(["python3", folder.file("sender.py"), folder.file("r")]);
  expect({ code, out }).toEqual({ code: 0, out: "unix stream: k\n64 KiB: k\nof 253: k\n" });
  await relay.until(/(?: end: .*\n[\s\S]*){3}/);
  await settles(() => sockets(relay.pid), before);
  const dropped = (reason: string) => relay.log.split(`dropped a message: ${reason}`).length - 1;
  expect(dropped("there is no socket in it")).toBe(3);
  expect(dropped("what is in it is not a connection")).toBe(4);
  expect(await relay.stop()).toBe(0);
});

/** Sockets that a process has open. */
function sockets(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:");
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

for (const [name, more] of [
  ["socketbox-inetd", ["echo", "served"]],
  ["socketbox-relay", ["--to", "127.0.0.1:9"]],
] as const) {
  testWith(program("python3"))(`${name} is not talked into filling the log`, async () => {
    using folder = scratch();
    const words =
      name === "socketbox-relay" ? ["-s", folder.file("r"), ...more] : [folder.file("r"), ...more];
    await using receiver = await ready(name, words);
    writeFileSync(folder.file("sender.py"), FLOODER);
    expect(await run(["python3", folder.file("sender.py"), folder.file("r")])).toEqual({ code: 0, out: "" });
    expect(await receiver.stop()).toBe(0);
    const lines = receiver.log.match(/dropped a message: there is no socket in it.*/g) ?? [];
    const counts = lines.map((line) => Number(/\((\d+) times more\)/.exec(line)?.[1] ?? 1));
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(20_000);
    expect(lines.length).toBeLessThan(1000);
  });
}

const FLOODER = `
import socket, sys
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(sys.argv[1])
for _ in range(20000):
    out.send(b"x")
`;
