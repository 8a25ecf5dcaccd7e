import { expect, test } from "bun:test";
import fc from "fast-check";
import { FLOW_WORDS, flowOf, flowWords } from "../../src/routing/record.ts";
import { flow } from "./drafts.ts";

test("a record holds the bytes of struct sb_flow, and no descriptor", () => {
  const words = flowWords(
    flow({ local: "2001:db8::1", localPort: 0x0102, remotePort: 0xfffe, remote: "192.0.2.9" }),
  );
  const hex = Buffer.from(words.buffer).toString("hex");
  expect(hex).toBe(
    "20010db8000000000000000000000001" + "00000000000000000000ffffc0000209" + "0201feff" + "ffffffff",
  );
});

test("a flow comes back from its record as it was", () => {
  const address = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const number = fc.integer({ min: 0, max: 65535 });
  const any = fc.record({
    local: address,
    localPort: number,
    remote: address,
    remotePort: number,
    listener: number,
  });
  const property = fc.property(any, fc.nat(5), (flow, before) => {
    const flows = new Uint32Array((before + 1) * FLOW_WORDS);
    flows.set(flowWords(flow), before * FLOW_WORDS);
    expect(flowOf(flows, before * FLOW_WORDS, flow.listener)).toEqual(flow);
  });
  fc.assert(property);
});

test("a flow read from a view into a larger buffer keeps its addresses when the buffer is used again", () => {
  const whole = new Uint32Array(4 * FLOW_WORDS);
  const view = whole.subarray(FLOW_WORDS);
  view.set(flowWords(flow({ local: "::5" })), FLOW_WORDS);
  const read = flowOf(view, FLOW_WORDS, 0);
  whole.fill(0);
  expect(read).toEqual(flow({ local: "::5" }));
});
