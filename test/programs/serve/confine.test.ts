/**
 * The system call filter, tried: a debugger makes every thread of running programs of ours call what it refuses. They
 * run as root with all capabilities, so that a refusal is the filter's and nobody else's; the same calls, made by a
 * program without the filter, are answered otherwise.
 */
import { describe, expect } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { receiver } from "../../faults/kit.ts";
import { NEWER_CALLS, REFUSED_CALLS } from "../../kit/calls.ts";
import { type Need, root, testWith } from "../../kit/require.ts";
import { freePort, must, Running, ready, scratch, threadStatus } from "../../kit/running.ts";
import { load, tool } from "../../kit/tools.ts";

const x64: Need = { name: "an x86-64 machine", met: process.arch === "x64" };

const [EPERM, EBADF, ENOSYS, EAFNOSUPPORT] = [-1, -9, -38, -97];
const CALL = {
  close: 3,
  ioctl: 16,
  getpid: 39,
  socket: 41,
  clone: 56,
  kill: 62,
  tkill: 200,
  tgkill: 234,
  prlimit64: 302,
};

/** What the thread is answered. Arguments that are not given are -1: no address, no descriptor, no process. */
async function call(tid: number, number: number, ...args: number[]): Promise<number> {
  const all = [...args, -1, -1, -1, -1, -1, -1].slice(0, 6).map(String);
  return Number(await must([tool("test/kit/tracer.c"), "call", String(tid), String(number), ...all]));
}

async function answers(
  tid: number,
  calls: Readonly<Record<string, number>>,
): Promise<Record<string, number>> {
  const answers: Record<string, number> = {};
  for (const [name, number] of Object.entries(calls)) answers[name] = await call(tid, number);
  return answers;
}

function threadsOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map(Number);
}

const refused = Object.fromEntries(Object.entries(REFUSED_CALLS).map(([name, [number]]) => [name, number]));
const all = (calls: object, answer: number) =>
  Object.fromEntries(Object.keys(calls).map((name) => [name, answer]));

describe("the filter of a running server", () => {
  testWith(root, x64)("refuses every call that it never needs, and the server goes on serving", async () => {
    using folder = scratch();
    await using _receiver = await receiver(folder.file("r"));
    const port = await freePort();
    const file = folder.file("c.toml");
    writeFileSync(
      file,
      `[server]\nworkers = 2\n[[listen]]\naddress = "127.0.0.1"\nport = ${port}\n[[route]]\nto = "unix:${folder.file("r")}"\n`,
    );
    await using server = await ready("socketbox", ["-f", file]);
    const { pid } = server;
    expect(threadStatus(pid, "CapEff")[0]).not.toBe("0000000000000000");
    expect(await answers(pid, refused)).toEqual(all(refused, EPERM));
    expect(await answers(pid, NEWER_CALLS)).toEqual(all(NEWER_CALLS, ENOSYS));

    // Signals are for itself alone: no other process, no group, not everybody.
    for (const other of [process.pid, 1, 0, -1]) expect(await call(pid, CALL.kill, other, 0)).toBe(EPERM);
    expect(await call(pid, CALL.tgkill, process.pid, process.pid, 0)).toBe(EPERM);
    expect(await call(pid, CALL.tkill, process.pid, 0)).toBe(EPERM);
    expect(await call(pid, CALL.kill, pid, 0)).toBe(0);
    expect(await call(pid, CALL.prlimit64, process.pid, 7, 0, 0)).toBe(EPERM);
    // No child, no protocol but those of its work, no word into a terminal.
    expect(await call(pid, CALL.clone, 17, 0, 0, 0, 0)).toBe(EPERM);
    for (const family of [17, 31, 38, 40])
      expect(await call(pid, CALL.socket, family, 2, 0)).toBe(EAFNOSUPPORT);
    expect(await call(pid, CALL.ioctl, -1, 0x5412, 0)).toBe(EPERM);
    expect(await call(pid, CALL.ioctl, -1, 0x541b, 0)).toBe(EBADF);

    const threads = threadsOf(pid);
    expect(threads.length).toBeGreaterThan(4);
    for (const tid of threads) {
      const first = { execve: refused.execve!, ptrace: refused.ptrace!, mount: refused.mount! };
      try {
        expect([tid, await answers(tid, first)]).toEqual([tid, all(first, EPERM)]);
        expect([tid, await call(tid, NEWER_CALLS.io_uring_setup)]).toEqual([tid, ENOSYS]);
      } catch (error) {
        if (threadsOf(pid).includes(tid)) throw error; // else it has ended meanwhile
      }
    }

    expect(await load({ port, count: 500, atATime: 50 })).toMatchObject({ served: 500 });
    expect(await server.stop()).toBe(0);
  });

  testWith(root, x64)("has no second entrance: neither 32-bit calls nor x32 ones", async () => {
    await using server = await ready("socketbox", ["-p", String(await freePort()), "-S", "@nobody"]);
    await using free = new Running(["sleep", "infinity"]);
    const getpid32 = async (pid: number) =>
      Number(await must([tool("test/kit/tracer.c"), "call32", String(pid), "20"]));
    expect(await getpid32(free.pid)).toBe(free.pid); // else this kernel has no such entrance
    expect(await getpid32(server.pid)).toBe(ENOSYS);
    expect(await call(server.pid, 0x40000000 + CALL.getpid)).toBe(ENOSYS);
    expect(await call(server.pid, CALL.getpid)).toBe(server.pid);
    expect(await server.stop()).toBe(0);
  });

  testWith(root, x64)("is what refuses: without it none of these calls is answered so", async () => {
    await using free = new Running(["sleep", "infinity"]);
    // These do as they are told without an argument that could be wrong.
    const { fork: _, vfork: __, vhangup: ___, ...harmless } = refused;
    const same = Object.entries(await answers(free.pid, harmless)).filter(([, answer]) => answer === EPERM);
    expect(same).toEqual([]);
    expect(await call(free.pid, CALL.kill, process.pid, 0)).toBe(0);
    expect(await call(free.pid, CALL.prlimit64, process.pid, 7, 0, 0)).toBe(0);
  });
});

describe("the filter of a running relay", () => {
  testWith(root, x64)("is the same, on every thread", async () => {
    using folder = scratch();
    const relay = ["-s", folder.file("r"), "--to", "127.0.0.1:9"];
    await using running = await ready("socketbox-relay", relay);
    for (const tid of threadsOf(running.pid)) {
      const first = { execve: refused.execve!, bpf: refused.bpf!, setuid: refused.setuid! };
      expect([tid, await answers(tid, first)]).toEqual([tid, all(first, EPERM)]);
      expect([tid, await call(tid, CALL.kill, process.pid, 0)]).toEqual([tid, EPERM]);
    }
    expect(await running.stop()).toBe(0);
  });
});
