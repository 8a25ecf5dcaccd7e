import { describe, expect, test } from "bun:test";
import { Fd, liveFds } from "../../src/io/fd.ts";
import { ERRNO, SysError } from "../../src/native/errno.ts";
import { native } from "../../src/native/library.ts";

function eventfd(): Fd {
  return Fd.from(native.sb_eventfd(), "eventfd");
}

/** Whether the number is open, asked without the owner. */
function isOpen(number: number): boolean {
  const copy = native.sb_duplicate(number);
  if (copy >= 0) native.sb_close(copy);
  return copy >= 0;
}

describe("an owned descriptor", () => {
  test("is closed once, when its scope ends", () => {
    const before = liveFds();
    let number = -1;
    {
      using fd = eventfd();
      number = fd.number;
      expect(liveFds()).toBe(before + 1);
      expect(isOpen(number)).toBe(true);
    }
    expect(isOpen(number)).toBe(false);
    expect(liveFds()).toBe(before);
  });

  test("that was closed closes nothing again: the number may be another's by then", () => {
    const first = eventfd();
    const { number } = first;
    first.close();
    using second = eventfd();
    expect(second.number).toBe(number); // the kernel gives the lowest that is free
    first.close();
    first[Symbol.dispose]();
    expect(isOpen(second.number)).toBe(true);
  });

  test("that was passed on is the taker's to close", () => {
    const before = liveFds();
    const fd = eventfd();
    const number = fd.take();
    expect(fd.open).toBe(false);
    expect(liveFds()).toBe(before);
    fd.close();
    expect(isOpen(number)).toBe(true);
    native.sb_close(number);
  });

  test("is not to be used after it was closed or passed on", () => {
    const fd = eventfd();
    fd.close();
    expect(() => fd.number).toThrow("used after it was closed");
    const before = liveFds();
    expect(() => fd.take()).toThrow("used after it was closed");
    expect(liveFds()).toBe(before);
  });
});

test("a failed call is a SysError with its step and errno, and owns nothing", () => {
  const before = liveFds();
  expect(() => Fd.from(-ERRNO.EMFILE, "make something")).toThrow(
    new SysError("make something", ERRNO.EMFILE),
  );
  expect(liveFds()).toBe(before);
});

test("0 is a descriptor like any other", () => {
  const fd = Fd.from(0, "standard input");
  expect(fd.open).toBe(true);
  expect(fd.take()).toBe(0);
});
