/** SPECs of socketbox-preload, and the compact form that the library reads. */
import { describe, expect, test } from "bun:test";
import {
  formatMap,
  formatRange,
  isCompact,
  type Mapping,
  parseMapping,
  unreachable,
} from "../../src/config/mapping.ts";

const parsed = (text: string): Mapping => {
  const mapping = parseMapping(text, "/here");
  if (typeof mapping === "string") throw new Error(`${text}: ${mapping}`);
  return mapping;
};
const line = (text: string) => formatMap([parsed(text)]);

describe("a SPEC", () => {
  const rows: [spec: string, compact: string][] = [
    ["80=/run/web.sock", "* 80 80 r /run/web.sock\n"],
    ["*:6379=@redis", "* 6379 6379 r @redis\n"],
    ["[::1]:443=/run/tls.sock", "00000000000000000000000000000001 443 443 r /run/tls.sock\n"],
    ["192.0.2.1:80=/w", "00000000000000000000ffffc0000201 80 80 r /w\n"],
    ["0.0.0.0:80=/w", "00000000000000000000ffff00000000 80 80 r /w\n"],
    ["[::]:80=/w", "00000000000000000000000000000000 80 80 r /w\n"],
    ["8000-8010=/run/app/{port}.sock", "* 8000 8010 r /run/app/{port}.sock\n"],
    ["0-65535=direct", "* 0 65535 x\n"],
    ["22=deny", "* 22 22 d 13\n"],
    ["22=deny:EADDRINUSE", "* 22 22 d 98\n"],
    ["80=./a=b", "* 80 80 r /here/./a=b\n"],
  ];
  for (const [spec, compact] of rows) {
    test(`${spec} is ${compact.trim()}`, () => {
      expect(line(spec)).toBe(compact);
      expect(isCompact(compact)).toBe(true);
      expect(isCompact(spec)).toBe(false);
    });
  }

  const faults: [spec: string, said: RegExp][] = [
    ["80", /there is no =.*expected \[ADDRESS:\]PORT=PATH/],
    ["=/x", /"" is not a port; expected 0 to 65535/],
    ["65536=/x", /"65536" is not a port/],
    ["abc=/x", /"abc" is not a port/],
    ["80-70=/x{port}", /80-70 ends before it begins/],
    ["1-2-3=/x", /"1-2-3" is not a port/],
    ["::1:80=/x", /is no address and port; expected such as/],
    ["[127.0.0.1]:80=/x", /"\[127.0.0.1\]" is not an address/],
    ["localhost:80=/x", /"localhost" is not an address; expected \*/],
    ["80=", /"" is not a path; expected \/PATH/],
    ["80=web.sock", /"web.sock" is not a path; expected/],
    ["80=@", /@ alone names nothing/],
    ["80=deny:EPERM", /"deny:EPERM" is no refusal; expected deny, deny:EACCES or deny:EADDRINUSE/],
    ["80-81=/x", /all ports of 80-81 would lead to one socket; expected \{port\}/],
    [`80=/${"x".repeat(107)}`, /the path has 108 bytes; at most 107/],
    [`10000=/${"x".repeat(102)}{port}`, /the path has 108 bytes/],
    [`80=/${"{port}".repeat(27)}`, /at most 107/],
    ["80=/a\nb", /has a line break or a NUL/],
  ];
  for (const [spec, said] of faults) {
    test(`${JSON.stringify(spec.slice(0, 30))} is refused, and said what was expected`, () => {
      expect(parseMapping(spec, "/here")).toMatch(said);
    });
  }

  test("as long as the path of its longest port fits is taken", () => {
    expect(line(`80-99=/${"x".repeat(104)}{port}`)).toContain("{port}");
  });
});

test("a mapping that an earlier one hides is found", () => {
  const found = unreachable(["80=/a", "1-100=deny", "[::1]:80=/b"].map(parsed));
  expect(found && [formatRange(found.late), formatRange(found.early)]).toEqual(["[::1]:80", "*:80"]);
  expect(unreachable(["[::1]:80=/a", "80=/b", "192.0.2.1:1-9=direct"].map(parsed))).toBeUndefined();
});
