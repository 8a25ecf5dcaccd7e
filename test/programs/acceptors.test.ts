/** The acceptors, as the control plane in this process sees them. */
import { expect, test } from "bun:test";
import { Fd } from "../../src/io/fd.ts";
import { targetOf } from "../../src/model/target.ts";
import { ERRNO } from "../../src/native/errno.ts";
import { native } from "../../src/native/library.ts";
import { Acceptors } from "../../src/programs/acceptors.ts";
import { ListenerNumbers } from "../../src/programs/configure.ts";
import { EXIT, type Host } from "../../src/programs/host.ts";
import { compile } from "../../src/routing/compile.ts";
import { draft, route } from "../routing/drafts.ts";

function silentHost(log: string[]): Host {
  const line = (text: string) => void log.push(text);
  return { name: "test", env: {}, self: [], out: line, log: line, raw: line, onSignal: () => {} };
}

test("once an acceptor has stopped, nothing is written any more to the number that woke it", async () => {
  const log: string[] = [];
  const acceptors = await Acceptors.start(silentHost(log), 2);
  const { table } = compile(draft({ main: [route("/nowhere")] }));
  expect(table!.targets[0]).toEqual(targetOf({ kind: "unix", path: "/nowhere" }));
  acceptors.serve({ table: table!, strict: 2, numbers: new ListenerNumbers(), sources: [], adopted: [] });
  const ended = acceptors.end({ exitWhenLost: false, stopping: () => {} });
  acceptors.stop(EXIT.ok);
  expect(await ended).toBe(EXIT.ok);
  // Among the numbers that are free now are those of before.
  using stack = new DisposableStack();
  const others = Array.from({ length: 16 }, () => stack.use(Fd.from(native.sb_eventfd(), "eventfd")));
  acceptors.nudge();
  acceptors.hold(1, others[0]!.number);
  const read = others.map(({ number }) => native.sb_read(number, new Uint8Array(8), 8));
  expect(read).toEqual(others.map(() => -ERRNO.EAGAIN));
  expect(log.at(-1)).toBe("stopped: 0 accepted");
});
