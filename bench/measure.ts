/** What the measurements share. */
import { readFileSync } from "node:fs";

/** proc_pid_stat(5) counts in clock ticks; USER_HZ is 100 on every machine that we run on. */
const MICROSECONDS_PER_TICK = 10_000;

/** CPU time of a process so far, user and system, all threads. */
export function cpuMicroseconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name, in parentheses, may hold anything; the fields after it are numbered from 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [user, system] = [Number(fields[14 - 3]), Number(fields[15 - 3])];
  return (user + system) * MICROSECONDS_PER_TICK;
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/**
 * Starts this program again in a network namespace of its own and ends with it: there, sysctls have their defaults
 * (net.unix.max_dgram_qlen is 10), and nobody else's traffic is in the way. Returns when it runs there.
 */
export function ownNetwork(script: string): void {
  if (process.env.SOCKETBOX_BENCH_NETWORK) return;
  const start = 'ip link set lo up && exec "$@"';
  const unshare = ["unshare", ...(process.getuid!() === 0 ? [] : ["-r"]), "-n"];
  const { exitCode } = Bun.spawnSync(
    [...unshare, "sh", "-c", start, "sh", process.execPath, script, ...process.argv.slice(2)],
    { env: { ...process.env, SOCKETBOX_BENCH_NETWORK: "1" }, stdio: ["inherit", "inherit", "inherit"] },
  );
  process.exit(exitCode);
}
