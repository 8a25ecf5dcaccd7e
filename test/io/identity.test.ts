/** Capabilities belong to threads, and Bun starts some that nobody asked for: none of them may keep any. */
import { expect } from "bun:test";
import { program, root, testWith } from "../kit/require.ts";
import { bin, freePort, Running, scratch, threadStatus } from "../kit/running.ts";

// With the second of these it can read this checkout wherever it lies.
const AMBIENT = "+net_bind_service,+dac_read_search";

testWith(root, program("setpriv"))(
  "started by a user with ambient capabilities, the server keeps them on no thread",
  async () => {
    using folder = scratch();
    const port = String(await freePort());
    await using server = new Running([
      ...["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups"],
      ...["--inh-caps", AMBIENT, "--ambient-caps", AMBIENT],
      ...[bin("socketbox"), "-S", folder.file("receiver"), "-p", port],
    ]);
    await server.until(/: ready: /);
    expect(threadStatus(server.pid, "Uid").length).toBeGreaterThan(3);
    for (const field of ["CapInh", "CapPrm", "CapEff", "CapAmb"])
      expect(new Set(threadStatus(server.pid, field))).toEqual(new Set(["0000000000000000"]));
    expect(new Set(threadStatus(server.pid, "NoNewPrivs"))).toEqual(new Set(["1"]));
    expect(await server.stop()).toBe(0);
  },
);
