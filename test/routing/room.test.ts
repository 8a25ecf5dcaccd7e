import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Room } from "../../src/routing/room.ts";

/** An acceptor with so many places, and the rooms in it. */
function hall(places: number, shared: boolean) {
  const rooms: Room[] = [];
  const around = {
    shared,
    readmits: false,
    get free() {
      return places - rooms.reduce((sum, { waiting }) => sum + waiting, 0);
    },
  };
  return {
    around,
    room: (limit: number, divided = false) => {
      const room = new Room(limit, divided, around);
      rooms.push(room);
      return room;
    },
  };
}

/** Lets connections wait one by one until there is no more room; returns how many. */
function fill(room: Room, wanted = Number.POSITIVE_INFINITY): number {
  let here = 0;
  while (here < wanted && room.more(here) > 0) {
    here++;
    room.waiting++;
  }
  return here;
}

describe("a target with one way", () => {
  test("has as many places as it says", () => {
    expect(fill(hall(1000, true).room(50))).toBe(50);
  });

  test("that is the only one may use all places: nobody else is held up when accepting pauses", () => {
    expect(hall(100, false).room(1_000_000).more(0)).toBe(1_000_000);
  });

  test("among others gets half of all places at most, however large its queue", () => {
    expect(fill(hall(1000, true).room(1_000_000))).toBe(500);
  });

  test("may let at least one connection wait where there is a place at all", () => {
    expect(hall(1, true).room(5).more(0)).toBe(1);
  });
});

test("however many dead targets there are, one more finds room", () => {
  const { room, around } = hall(10_000, true);
  for (let dead = 0; dead < 9; dead++) expect(fill(room(1_000_000))).toBeGreaterThan(0);
  expect(around.free).toBeGreaterThan(0);
  expect(room(1024).more(0)).toBeGreaterThan(0);
});

describe("a target with several ways", () => {
  test("lets one of them take half of its places, and all of them together no more than it has", () => {
    const room = hall(100_000, false).room(100, true);
    expect(fill(room)).toBe(50);
    expect(fill(room)).toBe(50);
    expect(fill(room)).toBe(0);
  });

  test("shares one number among any number of ways", () => {
    const room = hall(100_000, true).room(64, true);
    for (let way = 0; way < 64; way++) expect(fill(room, 1)).toBe(1);
    expect(fill(room, 1)).toBe(0);
  });
});

test("what is granted at once is what would be granted one by one", () => {
  const number = fc.integer({ min: 0, max: 300 });
  fc.assert(
    fc.property(
      number,
      number,
      number,
      fc.boolean(),
      fc.boolean(),
      (places, limit, before, divided, shared) => {
        const rooms = [0, 1].map(() => hall(places, shared).room(limit, divided));
        for (const room of rooms) room.waiting = before;
        expect(fill(rooms[0]!)).toBe(rooms[1]!.more(0));
      },
    ),
  );
});
