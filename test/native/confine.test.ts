/**
 * The system call filter as a program: what it answers, for both machines, by numbers that are written down here once
 * more (arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux). That the kernel keeps
 * to it is tested on running servers, in test/programs/serve/confine.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { NEEDED_CALLS, NEWER_CALLS, NEWER_NEEDED, REFUSED_CALLS } from "../kit/calls.ts";
import { program, testWith } from "../kit/require.ts";
import { must, ROOT, scratch } from "../kit/running.ts";

const ARCH = { x64: 0xc000003e, arm64: 0xc00000b7, i386: 0x40000003, arm: 0x40000028 } as const;
const PID = 4242;
const [ALLOW, EPERM, ENOSYS, EAFNOSUPPORT] = [0x7fff0000, 0x50001, 0x50026, 0x50061];

interface Step {
  readonly code: number;
  readonly yes: number;
  readonly no: number;
  readonly k: number;
}

interface Call {
  readonly arch: number;
  readonly number: number;
  /** 64 bits each. */
  readonly args: readonly bigint[];
}

/** Runs the filter as the kernel does (linux/filter.h, linux/seccomp.h). */
function answerOf(filter: readonly Step[], { arch, number, args }: Call): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, number, true);
  data.setUint32(4, arch, true);
  for (const [index, value] of args.entries()) data.setBigUint64(16 + index * 8, value, true);
  let word = 0;
  for (let at = 0; ; at++) {
    const { code, yes, no, k } = filter[at]!;
    if (code === 0x20) word = data.getUint32(k, true);
    else if (code === 0x06) return k;
    else if (code === 0x15) at += word === k ? yes : no;
    else if (code === 0x35) at += word >= k ? yes : no;
    else if (code === 0x45) at += (word & k) !== 0 ? yes : no;
    else throw new Error(`instruction ${code}`);
  }
}

type Machine = "x64" | "arm64";

/** The filter of this machine, or of the other one, emulated. */
async function filterOf(machine: Machine): Promise<Step[]> {
  using folder = scratch();
  const output = folder.file("filter");
  const own = machine === process.arch;
  const target = own ? [] : ["-target", `${TRIPLE[machine]}-linux-musl`, "-static"];
  const flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"];
  await must([
    join(ROOT, ".toolchain/bin/zig"),
    "cc",
    ...target,
    ...flags,
    "-o",
    output,
    "test/kit/filter.c",
  ]);
  const emulator = own ? [] : [EMULATOR[machine]];
  const lines = (await must([...emulator, output, String(PID)])).trim().split("\n");
  return lines.map((line) => {
    const [code, yes, no, k] = line.split(" ").map(Number);
    return { code: code!, yes: yes!, no: no!, k: k! };
  });
}

const TRIPLE = { x64: "x86_64", arm64: "aarch64" } as const;
const EMULATOR = { x64: "qemu-x86_64", arm64: "qemu-aarch64" } as const;

for (const machine of ["x64", "arm64"] as const) {
  const on = machine === process.arch ? [] : [program(EMULATOR[machine])];
  const column = machine === "x64" ? 0 : 1;
  const arch = ARCH[machine];

  testWith(...on)(`on ${machine} the filter refuses what is never needed, and nothing that is`, async () => {
    const filter = await filterOf(machine);
    const answer = (number: number, ...args: (number | bigint)[]) =>
      answerOf(filter, { arch, number, args: args.map(BigInt) });
    const wrong = (calls: Readonly<Record<string, readonly [number, number]>>, expected: number) =>
      Object.entries(calls).filter(
        ([, numbers]) => numbers[column]! >= 0 && answer(numbers[column]!) !== expected,
      );
    expect(wrong(REFUSED_CALLS, EPERM)).toEqual([]);
    expect(wrong(NEEDED_CALLS, ALLOW)).toEqual([]);
    const newer = Array.from({ length: 200 }, (_, index) => 424 + index);
    expect(newer.filter((number) => answer(number) === ALLOW)).toEqual(Object.values(NEWER_NEEDED));
    expect(newer.filter((number) => ![ALLOW, ENOSYS].includes(answer(number)))).toEqual([]);
    expect(Object.values(NEWER_CALLS).map((number) => answer(number))).not.toContain(ALLOW);

    const [kill, tgkill] = machine === "x64" ? [62, 234] : [129, 131];
    for (const pid of [1, 0, -1n & 0xffffffffffffffffn, 4243, BigInt(PID) << 32n])
      expect([pid, answer(kill, pid, 9), answer(tgkill, pid, pid, 9)]).toEqual([pid, EPERM, EPERM]);
    expect([answer(kill, PID, 6), answer(tgkill, PID, 4243, 6)]).toEqual([ALLOW, ALLOW]);

    const clone = machine === "x64" ? 56 : 220;
    const [thread, namespace, child] = [0x3d0f00, 0x10000000, 17];
    expect(answer(clone, thread)).toBe(ALLOW);
    expect([answer(clone, child), answer(clone, child | 0x4100)]).toEqual([EPERM, EPERM]);
    for (const bit of [0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, namespace, 0x20000000, 0x40000000])
      expect([bit, answer(clone, thread | bit)]).toEqual([bit, EPERM]);

    const socket = machine === "x64" ? 41 : 198;
    const families = Array.from({ length: 64 }, (_, family) => family);
    expect(families.filter((family) => answer(socket, family, 1) === ALLOW)).toEqual([1, 2, 10, 16]);
    expect(answer(socket, 38, 5)).toBe(EAFNOSUPPORT);

    const ioctl = machine === "x64" ? 16 : 29;
    expect([0x5412, 0x541c, 0x541b].map((request) => answer(ioctl, 0, request))).toEqual([
      EPERM,
      EPERM,
      ALLOW,
    ]);
    const prlimit = machine === "x64" ? 302 : 261;
    expect([0, PID, 1].map((pid) => answer(prlimit, pid, 7))).toEqual([ALLOW, ALLOW, EPERM]);
  });

  testWith(...on)(`on ${machine} the filter knows no other way into the kernel`, async () => {
    const filter = await filterOf(machine);
    const foreign = Object.values(ARCH).filter((other) => other !== arch);
    for (const other of foreign)
      for (const number of [0, 11, 39, 59, 172])
        expect(answerOf(filter, { arch: other, number, args: [] })).toBe(ENOSYS);
    // x32: the same entry, the same architecture, another bit.
    for (const number of [0x40000000, 0x40000000 + 59, 0x40000000 + 520, 0xffffffff])
      expect(answerOf(filter, { arch, number, args: [] })).toBe(ENOSYS);
  });
}

describe("the tables of this test", () => {
  test("name each call once", () => {
    const tables = [REFUSED_CALLS, NEEDED_CALLS];
    for (const column of [0, 1]) {
      const numbers = tables.flatMap((table) => Object.values(table).map((pair) => pair[column]!));
      const known = numbers.filter((number) => number >= 0);
      expect(new Set(known).size).toBe(known.length);
    }
  });
});
