import { describe, expect, test } from "bun:test";
import { type Diagnostic, formatDiagnostic, formatPlace, hasErrors } from "../../src/model/diagnostic.ts";
import { formatFlow } from "../../src/model/flow.ts";
import { flow } from "../routing/drafts.ts";

const error: Diagnostic = {
  severity: "error",
  place: { file: "a.conf", line: 3, column: 7 },
  what: "there is no rule list 1",
  expected: "rule-set:1",
};
const warning: Diagnostic = { ...error, severity: "warning", expected: "" };

describe("a diagnostic", () => {
  test("says where, what, and what was expected", () => {
    expect(formatDiagnostic(error)).toBe("a.conf:3:7: error: there is no rule list 1; expected rule-set:1");
  });

  test("leaves out an expectation that says nothing more", () => {
    expect(formatDiagnostic(warning)).toBe("a.conf:3:7: warning: there is no rule list 1");
  });

  test("leaves out a line and a column that it does not have", () => {
    expect(formatPlace({ file: "a.conf", line: 3, column: 0 })).toBe("a.conf:3");
    expect(formatPlace({ file: "a.conf", line: 0, column: 0 })).toBe("a.conf");
  });

  test("one error among warnings is an error; warnings alone are none", () => {
    expect(hasErrors([warning, error])).toBe(true);
    expect(hasErrors([warning])).toBe(false);
  });
});

test("a flow is written in the order in which the connection was made", () => {
  expect(formatFlow(flow({ local: "192.0.2.1", remote: "2001:db8::9", localPort: 22, remotePort: 1 }))).toBe(
    "[2001:db8::9]:1 -> [::ffff:192.0.2.1]:22",
  );
});
