/** What comes from the network, from other processes and from files, as bytes. */
import { afterAll, describe, expect, test } from "bun:test";
import { openSync, readSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { takeProxyHeader } from "../../src/io/proxy-header.ts";
import type { Address } from "../../src/model/address.ts";
import { cString, native } from "../../src/native/library.ts";
import { FLOW_FD_WORD } from "../../src/native/structs.ts";
import { FLOW_WORDS } from "../../src/routing/record.ts";
import { readElf } from "../../src/wire/elf.ts";
import {
  DATAGRAM_PAYLOAD,
  endsOfPayload,
  PAYLOAD_MAX,
  proxiedPayload,
  SLOT_PAYLOAD,
} from "../../src/wire/handoff.ts";
import { type Decoded, decodeProxy, type ProxyEnds } from "../../src/wire/proxy.ts";
import {
  decodeRegistration,
  encodeRegistration,
  isRegistered,
  REGISTERED,
} from "../../src/wire/registration.ts";
import { scratch } from "../kit/running.ts";
import { holds, kept, mutatedBytes } from "./kit.ts";

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });
const proxies = kept("proxy");
const header = mutatedBytes(proxies.map(([, content]) => content));

const sixteen = fc.uint8Array({ minLength: 16, maxLength: 16 });
const mapped = fc
  .uint8Array({ minLength: 4, maxLength: 4 })
  .map((four) => Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...four]));
const address: fc.Arbitrary<Address> = fc.oneof(sixteen, mapped);
const port = fc.nat(0xffff);
const ends: fc.Arbitrary<ProxyEnds> = fc.record({
  local: address,
  localPort: port,
  remote: address,
  remotePort: port,
});

/** What is decided once stays decided, however much more comes; a header ends within what is there. */
function expectSteady(content: Uint8Array): void {
  let decided: Decoded = { kind: "partial" };
  for (let length = 0; length <= content.length; length++) {
    const decoded = decodeProxy(content.subarray(0, length));
    if (decided.kind === "partial") {
      if (decoded.kind === "header") expect(decoded.header.length).toBe(length);
    } else expect(decoded).toEqual(decided);
    decided = decoded;
  }
}

describe("a PROXY header", () => {
  test.each(proxies)("%s is decided by its last byte, and by none before", (_, content) => {
    expectSteady(content);
    expect(decodeProxy(content).kind).toBe("header");
  });

  holds(
    "with any change is decided once, whatever follows",
    300,
    fc.property(header, bytes(20), (start, more) => expectSteady(Uint8Array.from([...start, ...more]))),
  );
  holds(
    "of any bytes is decided once",
    500,
    fc.property(bytes(120), (content) => expectSteady(content)),
  );
});

describe("a connection that begins with a PROXY header", () => {
  const folder = scratch();
  afterAll(() => folder[Symbol.dispose]());
  const path = cString(folder.file("socket"));
  const listener = native.sb_bind_unix(path, 1, 0o600);
  native.sb_listen(listener, 8);

  /** Both ends of a stream. */
  function pair(): [client: number, server: number] {
    const flows = new Uint32Array(FLOW_WORDS);
    const client = native.sb_connect_unix(path, 1);
    expect(native.sb_accept(listener, flows, 1, 0)).toBe(1);
    return [client, flows[FLOW_FD_WORD]!];
  }

  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 });

  holds(
    "has it taken off in any pieces, and not a byte more",
    300,
    fc.property(header, bytes(20), cuts, (start, more, cuts) => {
      const content = Uint8Array.from([...start, ...more]);
      const whole = decodeProxy(content);
      const [client, server] = pair();
      const borders = [
        ...cuts.map((cut) => Math.floor(cut * content.length)).sort((a, b) => a - b),
        content.length,
      ];
      let taken: ReturnType<typeof takeProxyHeader> = { kind: "partial" };
      let sent = 0;
      for (const border of borders) {
        native.sb_write(client, content.subarray(sent, border), border - sent);
        sent = border;
        if (taken.kind === "partial") taken = takeProxyHeader(server);
      }
      native.sb_close(client);
      const rest = new Uint8Array(content.length + 1);
      const left = Math.max(0, native.sb_read(server, rest, rest.length));
      native.sb_close(server);
      expect(taken).toEqual(whole);
      const length = whole.kind === "header" ? whole.header.length : 0;
      expect(Buffer.from(rest.subarray(0, left))).toEqual(Buffer.from(content.subarray(length)));
    }),
  );

  test("leaves no descriptor behind", () => {
    native.sb_close(listener);
  });
});

describe("the payload of a hand-off", () => {
  const plain = fc.constantFrom(DATAGRAM_PAYLOAD, SLOT_PAYLOAD);

  holds(
    "tells the true ends in at most 128 bytes, behind what the original sends",
    300,
    fc.property(plain, ends, (plain, ends) => {
      const payload = proxiedPayload(plain, ends);
      expect(payload.length).toBeLessThanOrEqual(PAYLOAD_MAX);
      expect(payload.subarray(0, plain.length)).toEqual(plain);
      const received = new Uint8Array(PAYLOAD_MAX);
      received.set(payload);
      expect(endsOfPayload(received)).toEqual(ends);
    }),
  );
  holds(
    "may be anything",
    1000,
    fc.property(
      mutatedBytes([
        DATAGRAM_PAYLOAD,
        SLOT_PAYLOAD,
        ...proxies.map(([, content]) => Uint8Array.from([0, ...content])),
      ]),
      (payload) => {
        const received = new Uint8Array(PAYLOAD_MAX);
        received.set(payload.subarray(0, PAYLOAD_MAX));
        endsOfPayload(received);
        endsOfPayload(payload);
      },
    ),
  );
});

describe("a registration", () => {
  const message = fc.oneof(mutatedBytes([encodeRegistration(0), encodeRegistration(0x01020304)]), bytes(12));
  holds(
    "is one only where it is what would be sent for its slot",
    2000,
    fc.property(message, (message) => {
      const slot = decodeRegistration(message);
      if (slot !== undefined) expect(encodeRegistration(slot)).toEqual(message);
    }),
  );
  holds(
    "is answered by four bytes and no others",
    1000,
    fc.property(fc.oneof(mutatedBytes([REGISTERED]), bytes(6)), (answer) => {
      expect(isRegistered(answer)).toBe(Buffer.from(answer).toString("hex") === "80000000");
    }),
  );
});

describe("an executable", () => {
  const files = kept("elf");
  const folder = scratch();
  afterAll(() => folder[Symbol.dispose]());
  const path = folder.file("program");

  /** As io/executable.ts reads one. */
  function examine(content: Uint8Array): void {
    writeFileSync(path, content);
    const fd = openSync(path, "r");
    try {
      readElf((offset, length) => {
        const buffer = Buffer.alloc(length);
        return buffer.subarray(0, readSync(fd, buffer, 0, length, offset));
      });
    } finally {
      native.sb_close(fd);
    }
  }

  test.each(files)("%s is examined", (_, content) => examine(content));
  holds(
    "with any change is examined",
    500,
    fc.property(mutatedBytes(files.map(([, content]) => content)), examine),
  );
});
