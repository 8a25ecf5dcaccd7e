import { afterEach, describe, expect, test } from "bun:test";
import { Fd } from "../../src/io/fd.ts";
import { EVENT, Reactor, type Watch } from "../../src/io/reactor.ts";
import { SysError } from "../../src/native/errno.ts";
import { native } from "../../src/native/library.ts";

const stack = { now: new DisposableStack() };

afterEach(() => {
  stack.now.dispose();
  stack.now = new DisposableStack();
});

function reactor(): Reactor {
  return stack.now.use(new Reactor());
}

/** Always writable; readable while it is raised. */
function signal() {
  const fd = stack.now.use(Fd.from(native.sb_eventfd(), "eventfd"));
  return {
    fd,
    raise: () => native.sb_eventfd_add(fd.number),
    take: () => native.sb_eventfd_take(fd.number),
  };
}

describe("a watch", () => {
  test("is called with what is set, as long as that is so", () => {
    const loop = reactor();
    const { fd, raise, take } = signal();
    const seen: number[] = [];
    loop.watch(fd.number, EVENT.in, (events) => seen.push(events));
    raise();
    loop.turn();
    loop.turn();
    expect(seen).toEqual([EVENT.in, EVENT.in]);
    take();
    quiet(loop);
    expect(seen).toHaveLength(2);
  });

  test("that changes waits for other events, or for none", () => {
    const loop = reactor();
    const { fd, raise } = signal();
    const seen: number[] = [];
    const watch = loop.watch(fd.number, 0, (events) => seen.push(events));
    raise();
    quiet(loop);
    expect(seen).toEqual([]);
    watch.change(EVENT.in | EVENT.out);
    loop.turn();
    expect(seen).toEqual([EVENT.in | EVENT.out]);
    watch.change(0);
    quiet(loop);
    expect(seen).toHaveLength(1);
  });

  test("that is cancelled is not called again, also when its event has been fetched already", () => {
    const loop = reactor();
    const [one, other] = [signal(), signal()];
    const called: string[] = [];
    const watches = [one, other].map(({ fd }, index) =>
      loop.watch(fd.number, EVENT.in, () => {
        called.push(String(index));
        watches[1 - index]!.cancel();
      }),
    );
    one.raise();
    other.raise();
    loop.turn();
    expect(called).toHaveLength(1);
    watches[0]!.cancel();
    watches[1]!.cancel();
    quiet(loop);
    expect(called).toHaveLength(1);
  });

  test("for a descriptor that has the number of another of the same turn is not called for that", () => {
    const loop = reactor();
    const signals = [signal(), signal()];
    const called: string[] = [];
    const watches: Watch[] = [];
    let next: Fd | undefined;
    for (const [index, { fd }] of signals.entries()) {
      const watch = loop.watch(fd.number, EVENT.in, () => {
        called.push("first");
        const other = signals[1 - index]!.fd;
        const { number } = other;
        // The other's event lies there, too; its number gets another owner before it is looked at.
        watches[1 - index]!.cancel();
        other.close();
        next = stack.now.use(Fd.from(native.sb_eventfd(), "eventfd"));
        expect(next.number).toBe(number);
        loop.watch(next.number, EVENT.in, () => called.push("second"));
        watch.cancel();
      });
      watches.push(watch);
    }
    for (const { raise } of signals) raise();
    loop.turn();
    expect(called).toEqual(["first"]);
    native.sb_eventfd_add(next!.number);
    loop.turn();
    expect(called).toEqual(["first", "second"]);
  });

  test("that is forgotten leaves the number to its next owner", () => {
    const loop = reactor();
    const first = signal();
    const { number } = first.fd;
    const watch = loop.watch(number, EVENT.in, () => expect.unreachable());
    watch.forget();
    first.fd.close();
    const second = signal();
    expect(second.fd.number).toBe(number);
    let called = 0;
    loop.watch(number, EVENT.in, () => called++);
    watch.cancel(); // not its own any more
    second.raise();
    loop.turn();
    expect(called).toBe(1);
  });

  test("of what cannot be watched is an error that says so", () => {
    const loop = reactor();
    using file = Fd.from(native.sb_duplicate(0), "standard input");
    const { number } = file;
    file.close();
    expect(() => loop.watch(number, EVENT.in, () => {})).toThrow(SysError);
  });
});

describe("a timer", () => {
  test("is called once, not before its time, and in order with others", () => {
    const loop = reactor();
    const called: string[] = [];
    const began = performance.now();
    const times: number[] = [];
    const note = (name: string) => () => {
      called.push(name);
      times.push(performance.now() - began);
    };
    loop.after(20, note("c"));
    loop.after(1, note("a"));
    loop.after(10, note("b"));
    while (called.length < 3) loop.turn();
    expect(called).toEqual(["a", "b", "c"]);
    for (const [index, ms] of [1, 10, 20].entries()) expect(times[index]).toBeGreaterThanOrEqual(ms);
    quiet(loop);
    expect(called).toHaveLength(3);
  });

  test("that is added by another, and is due before all others, is not forgotten", () => {
    const loop = reactor();
    const called: string[] = [];
    loop.after(1, () => {
      called.push("a");
      loop.after(1, () => called.push("b"));
    });
    loop.after(60_000, () => called.push("far"));
    while (called.length < 2) loop.turn();
    expect(called).toEqual(["a", "b"]);
  });

  test("that is cancelled does not run; others do", () => {
    const loop = reactor();
    const called: string[] = [];
    const cancelled = loop.after(1, () => called.push("cancelled"));
    loop.after(2, () => called.push("other"));
    cancelled.cancel();
    while (called.length < 1) loop.turn();
    expect(called).toEqual(["other"]);
  });

  test("may be further away than the kernel's clock can be set", () => {
    const loop = reactor();
    loop.after(1e12, () => expect.unreachable());
    quiet(loop);
  });
});

describe("run", () => {
  test("goes on until it is told to stop, and tells each turn", () => {
    const loop = reactor();
    const { fd, raise } = signal();
    let [called, turns] = [0, 0];
    loop.watch(fd.number, EVENT.in, () => {
      if (++called === 5) loop.stop();
    });
    raise();
    loop.run(() => turns++);
    expect([called, turns]).toEqual([5, 5]);
  });
});

test("what a callback starts is not run before the others of its turn have had theirs", () => {
  const loop = reactor();
  const signals = Array.from({ length: 5 }, signal);
  const called: number[] = [];
  for (const [index, { fd, take }] of signals.entries()) {
    loop.watch(fd.number, EVENT.in, () => {
      called.push(index);
      take();
    });
  }
  for (const { raise } of signals) raise();
  loop.turn();
  expect(called.sort()).toEqual([0, 1, 2, 3, 4]);
});

/** A turn that a timer of its own ends: what is ready is called in it, or before. */
function quiet(loop: Reactor): void {
  let ended = false;
  loop.after(1, () => {
    ended = true;
  });
  while (!ended) loop.turn();
}
