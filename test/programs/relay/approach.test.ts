/** The pace of attempts, with a clock that the test holds. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import type { Fd } from "../../../src/io/fd.ts";
import type { Names } from "../../../src/io/names.ts";
import { EVENT, type Reactor } from "../../../src/io/reactor.ts";
import { parseAddress } from "../../../src/model/address.ts";
import { formatUpstream } from "../../../src/model/upstream.ts";
import { Approach } from "../../../src/programs/relay/approach.ts";
import { freePort } from "../../kit/running.ts";

test("addresses of a name are tried a quarter of a second apart; who comes first ends the others", async () => {
  const port = await freePort();
  const timers: { ms: number; run: () => void; cancelled: boolean }[] = [];
  const watched: { fd: number; ready: (events: number) => void }[] = [];
  const reactor = {
    after(ms: number, run: () => void) {
      const timer = { ms, run, cancelled: false };
      timers.push(timer);
      return { cancel: () => (timer.cancelled = true) };
    },
    watch(fd: number, _: number, ready: (events: number) => void) {
      watched.push({ fd, ready });
      return { forget() {} };
    },
  } as unknown as Reactor;
  const addresses = ["::1", "127.0.0.1", "::1"].map((text) => ({ address: parseAddress(text)!, scope: 0 }));
  const names = {
    lookUp: (_: string, found: (addresses: unknown) => void) => found(addresses),
  } as unknown as Names;
  const timeouts = { connect: 10_000, idle: 0, halfClosed: 0, total: 0 };
  const around = { settings: { timeouts }, reactor, names, missed() {}, shortage() {} };
  const from = { source: undefined, transparent: false, sockets: undefined };
  let reached: { hop: string; fd: Fd } | undefined;
  const approach = new Approach(
    around,
    from,
    [{ index: 0, upstream: { kind: "name", name: "a.example", port } }],
    [],
    0,
    {
      reached: (_, hop, fd) => {
        reached = { hop: formatUpstream(hop), fd };
      },
      failed: (causes) => expect.unreachable(causes),
    },
  );
  approach.begin();
  expect(timers.map(({ ms }) => ms)).toEqual([10_000, 250]);
  expect(watched).toHaveLength(1);
  timers[1]!.run();
  expect(timers.map(({ ms }) => ms)).toEqual([10_000, 250, 250]);
  expect(watched).toHaveLength(2);
  watched[1]!.ready(EVENT.out);
  expect(reached?.hop).toBe(`[::ffff:127.0.0.1]:${port}`);
  expect(watched.map(({ fd }) => existsSync(`/proc/self/fd/${fd}`))).toEqual([false, true]);
  expect(timers.map(({ cancelled }) => cancelled)).toEqual([true, true, true]);
  reached!.fd.close();
});
