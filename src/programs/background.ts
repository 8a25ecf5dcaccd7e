/**
 * `-d`: the program starts itself again in a session of its own, and this command returns when the new process is
 * ready, or has said why it is not. The new process finds an eventfd under SOCKETBOX_READY_FD, and adds to it.
 */
import { closeSync, openSync } from "node:fs";
import { isatty } from "node:tty";
import { Fd } from "../io/fd.ts";
import { EVENT, Reactor } from "../io/reactor.ts";
import { type Child, inheritedFds, passOn, reap, spawn, startedWith } from "../io/spawn.ts";
import { native } from "../native/library.ts";
import { EXIT, type Host } from "./host.ts";

const READY = "SOCKETBOX_READY_FD";

/**
 * Starts this program again with `args`; of standard input and output it keeps what is in `kept`, because it was told
 * to work with that. Returns the exit code for this process.
 */
export function goToBackground(
  host: Host,
  args: readonly string[],
  kept: readonly (number | undefined)[],
): number {
  const inherited = inheritedFds();
  using ready = Fd.from(native.sb_eventfd(), "eventfd");
  passOn([...inherited, ready.number]);
  const nothing = openSync("/dev/null", "r+");
  const [program, ...first] = host.self;
  const child = spawn(
    {
      program: program!,
      argv: [program!, ...first, ...args],
      env: { ...host.env, [READY]: String(ready.number) },
      ...(!kept.includes(0) && { stdin: nothing }),
      ...(!kept.includes(1) && { stdout: nothing }),
      newSession: true,
    },
    startedWith(host.env.SOCKETBOX_STARTED),
  );
  closeSync(nothing);
  return waitUntilReady(child, ready);
}

function waitUntilReady(child: Child, ready: Fd): number {
  using reactor = new Reactor();
  let code: number | undefined;
  reactor.watch(ready.number, EVENT.in, () => {
    code = EXIT.ok;
  });
  reactor.watch(child.pidfd.number, EVENT.in, () => {
    const ending = reap(child);
    if (ending) code ??= ending.exited ? ending.status : EXIT.internal;
  });
  while (code === undefined) reactor.turn();
  child.pidfd.close();
  return code;
}

/**
 * To be called when a program has done what its starter waits for. A terminal is let go of: it belongs to whoever
 * sits there, and its log lines would end with it. Must be prepared before a chroot takes /dev away.
 */
export function prepareReady(host: Host): () => void {
  const note = host.env[READY] ?? "";
  if (!/^\d+$/.test(note)) return () => {};
  const ready = new Fd(Number(note));
  native.sb_set_inheritable(ready.number, 0);
  const nothing = openSync("/dev/null", "r+");
  return () => {
    if (isatty(2)) native.sb_redirect(nothing, 2);
    closeSync(nothing);
    native.sb_eventfd_add(ready.number);
    ready.close();
  };
}
