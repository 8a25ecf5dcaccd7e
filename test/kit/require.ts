/** Tests that need a program or a privilege say so; what is missing skips them by name, or fails them in CI. */
import { test } from "bun:test";
import { readFileSync } from "node:fs";

const required = process.env.SOCKETBOX_REQUIRE_ALL === "1";

export interface Need {
  readonly name: string;
  readonly met: boolean;
}

/** Debian keeps daemons where a user's PATH does not look. */
export const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

export function program(name: string): Need {
  return { name: `program ${name}`, met: Bun.which(name, { PATH }) !== null };
}

/** So many open files in this process. */
export function descriptorsUpTo(count: number): Need {
  const limit = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return { name: `${count} descriptors`, met: Number(limit) >= count };
}

/** Namespaces, other users, low ports. */
export const root: Need = { name: "root", met: process.getuid?.() === 0 };

/** Ports that others may not bind (ip(7)); in some containers there are none. */
export const lowPorts: Need = {
  name: "ports for root alone",
  met: Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8")) >= 1024,
};

/** `test`, or a skipped test whose name says what is missing. */
export function testWith(...needs: readonly Need[]): (name: string, run: () => unknown) => void {
  const missing = needs.filter(({ met }) => !met).map((need) => need.name);
  if (missing.length === 0) return (name, run) => void test(name, async () => void (await run()));
  if (required) {
    return (name) =>
      test(name, () => {
        throw new Error(`SOCKETBOX_REQUIRE_ALL is set, and this is missing: ${missing.join(", ")}`);
      });
  }
  return (name) => test.skip(`${name} (needs ${missing.join(", ")})`, () => {});
}
