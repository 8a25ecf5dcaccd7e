/** Loaded before the tests (bunfig.toml): a run that leaves a process or a descriptor behind fails. */
import { afterAll, beforeAll, expect } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { claimPorts } from "./ports.ts";

// Tests make files that other users are to read, whatever this user's habit is.
process.umask(0o022);

/** Command lines of our children, those that have ended and were not waited for as well. */
function children(): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    try {
      // pid (name) state parent; the name may hold anything, parentheses too (proc(5)).
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(parent) !== process.pid) return [];
      return [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()}`];
    } catch {
      return []; // not a process, or it has ended meanwhile
    }
  });
}

/** What is open; what Bun itself opens are anonymous inodes, such as its epoll, and its own files. */
function descriptors(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const open = readlinkSync(`/proc/self/fd/${fd}`);
      return /^(socket:|pipe:)/.test(open) ? [`${fd} ${open}`] : [];
    } catch {
      return []; // the listing's own
    }
  });
}

let before: string[] = [];

beforeAll(() => {
  claimPorts();
  before = descriptors();
});

afterAll(async () => {
  const left = () => ({
    children: children(),
    descriptors: descriptors().filter((open) => !before.includes(open)),
  });
  // A descriptor that was just closed, and a child that was just told to end, need a moment.
  for (let i = 0; i < 500 && (left().children.length > 0 || left().descriptors.length > 0); i++)
    await Bun.sleep(20);
  expect(left()).toEqual({ children: [], descriptors: [] });
});
