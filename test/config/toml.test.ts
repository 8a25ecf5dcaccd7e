import { describe, expect, test } from "bun:test";
import type { ListenerSettings, ServerSettings } from "../../src/config/configuration.ts";
import { readConfiguration } from "../../src/config/read.ts";
import { SLOTS } from "../../src/config/schema.ts";
import { formatPattern, parseAddress } from "../../src/model/address.ts";
import type { DraftRoute } from "../../src/routing/draft.ts";
import { faultsOf, marked } from "./faults.ts";

const FILE = "/etc/socketbox.toml";
const ROUTE = '[[route]]\nto = "deny"\n';
const ALLOW = "[[registry.allow]]\nslot = 1\n";

function configurationOf(text: string) {
  const { configuration, diagnostics } = readConfiguration(FILE, text);
  if (!configuration) throw new Error(JSON.stringify(diagnostics));
  return configuration;
}

/** The first route at the top. */
function routeOf(text: string): DraftRoute {
  return configurationOf(text).draft.tables[0]!.routes[0]!;
}

/** The target of the first route. */
function targetOf(text: string) {
  const { action } = routeOf(text);
  if (action.kind !== "target") throw new Error(`goes to ${action.kind}`);
  return action.target;
}

const receiverOf = (to: string, more = "") => targetOf(`[[route]]\nto = "${to}"\n${more}`).receivers[0];

/** Wrong at its mark and nowhere else. */
function expectFault(written: string, message: string): void {
  const { text, places } = marked(written);
  expect(faultsOf(FILE, text)).toEqual([`${places[0]}: ${message}`]);
}

describe("[[registry]]", () => {
  test("says who may take which slots, by name or number", () => {
    const { registries } = configurationOf(`${ROUTE}
      [slots]
      web = 7
      [[registry]]
      path = "/run/r"
      [[registry.allow]]
      slot = ["web", 8]
      user = ["www-data", 33]
      takeover = true
      [[registry]]
      path = "@r"
      mode = "0600"
      owner = 1
      group = "www-data"
      per-user = 9
      [[registry.allow]]
      slot = 8`);
    expect(registries).toEqual([
      {
        path: "/run/r",
        mode: 0o660,
        perUser: 5,
        allow: [{ slots: [7, 8], users: ["www-data", "33"], takeover: true }],
      },
      {
        path: "@r",
        mode: 0o600,
        owner: "1",
        group: "www-data",
        perUser: 9,
        allow: [{ slots: [8], takeover: false }],
      },
    ]);
  });
});

describe("[server]", () => {
  test.each<[string, Partial<ServerSettings>]>([
    ['user = "nobody"', { user: "nobody" }],
    ["user = 65534", { user: "65534" }],
    ['group = "tty"', { group: "tty" }],
    ["group = 0", { group: "0" }],
    ['groups = ["tty", 5]', { groups: ["tty", "5"] }],
    ["groups = []", { groups: [] }],
    ['chroot = "/var/empty"', { chroot: "/var/empty" }],
    ["workers = 64", { workers: 64 }],
    ["", {}],
  ])("%s", (line, settings) => {
    expect(configurationOf(`[server]\n${line}\n${ROUTE}`).server).toEqual({ workers: 1, ...settings });
  });
});

describe("[[listen]]", () => {
  const everything: ListenerSettings = {
    name: "main",
    address: parseAddress("::")!,
    scope: 0,
    port: 80,
    transparent: false,
    freebind: false,
    reuseAddress: true,
    reusePort: false,
    backlog: 4096,
    clearTransparent: false,
  };
  const mapped = parseAddress("::ffff:192.0.2.1")!;

  test.each<[string, Partial<ListenerSettings>]>([
    ["", {}],
    ['name = "web"', { name: "web" }],
    ['address = "2001:db8::1"', { address: parseAddress("2001:db8::1")! }],
    ['address = "192.0.2.1"', { address: mapped }],
    ['address = "::ffff:192.0.2.1"', { address: mapped }],
    ['address = "fe80::1%7"', { address: parseAddress("fe80::1")!, scope: 7 }],
    ["port = 0", { port: 0 }],
    ["port = 65535", { port: 65535 }],
    ["transparent = true", { transparent: true }],
    ["freebind = true", { freebind: true }],
    ["reuse-address = false", { reuseAddress: false }],
    ["reuse-port = true", { reusePort: true }],
    ["backlog = 1", { backlog: 1 }],
    ["clear-transparent = true", { clearTransparent: true }],
    ['netns = "blue"', { netns: "blue" }],
    ['device = "eth0"', { device: "eth0" }],
  ])("%s", (line, settings) => {
    expect(configurationOf(`[[listen]]\n${line}\n${ROUTE}`).listeners).toEqual([
      { ...everything, ...settings },
    ]);
  });

  test("without any, the server listens everywhere on port 80", () => {
    expect(configurationOf(ROUTE).listeners).toEqual([everything]);
  });

  test("several have names of their own: those given, else their number", () => {
    const text = `[[listen]]\nport = 1\n[[listen]]\nname = "b"\nport = 2\n[[listen]]\nport = 3\n${ROUTE}`;
    const { listeners } = configurationOf(text);
    expect(listeners.map(({ name, port }) => `${name} ${port}`)).toEqual(["listen-1 1", "b 2", "listen-3 3"]);
  });
});

describe("[[route]]", () => {
  test.each([
    ['"::1"', ["::1"]],
    ['"192.0.2.1"', ["192.0.2.1"]],
    ['"10.0.0.0/8"', ["10.0.0.0/8"]],
    ['"10.0.0.0/255.0.0.0"', ["10.0.0.0/8"]],
    ['"2001:db8::/32"', ["2001:db8::/32"]],
    ['"::/::ffff:ffff:ffff:ffff"', ["::/::ffff:ffff:ffff:ffff"]],
    ['["::1", "10.0.0.0/8"]', ["::1", "10.0.0.0/8"]],
  ])("local and remote take %s", (value, patterns) => {
    const local = routeOf(`[[route]]\nlocal = ${value}\nto = "deny"`);
    expect(local.local.map(formatPattern)).toEqual(patterns);
    expect(local.remote).toEqual([]);
    const remote = routeOf(`[[route]]\nremote = ${value}\nto = "deny"`);
    expect(remote.remote.map(formatPattern)).toEqual(patterns);
    expect(remote.local).toEqual([]);
  });

  test.each([
    ["80", [[80, 80]]],
    ['"80"', [[80, 80]]],
    ['"8000-8010"', [[8000, 8010]]],
    ['"1-65535"', [[1, 65535]]],
    [
      '[22, "8000-8010", "443"]',
      [
        [22, 22],
        [8000, 8010],
        [443, 443],
      ],
    ],
  ])("port and remote-port take %s", (value, ranges) => {
    const expected = ranges.map(([first, last]) => ({ first: first!, last: last! }));
    const local = routeOf(`[[route]]\nport = ${value}\nto = "deny"`);
    expect([local.localPorts, local.remotePorts]).toEqual([expected, []]);
    const remote = routeOf(`[[route]]\nremote-port = ${value}\nto = "deny"`);
    expect([remote.localPorts, remote.remotePorts]).toEqual([[], expected]);
  });

  test("listener takes a name or a list of names, whether given or by number", () => {
    const listens = '[[listen]]\nport = 1\n[[listen]]\nname = "b"\nport = 2\n';
    const one = routeOf(`${listens}[[route]]\nlistener = "b"\nto = "deny"`);
    expect(one.listeners).toEqual([1]);
    const two = routeOf(`${listens}[[route]]\nlistener = ["b", "listen-1"]\nto = "deny"`);
    expect(two.listeners).toEqual([1, 0]);
    expect(routeOf('[[route]]\nlistener = "main"\nto = "deny"').listeners).toEqual([0]);
  });

  test("a route that names nothing compares nothing", () => {
    expect(routeOf(ROUTE)).toMatchObject({
      local: [],
      localPorts: [],
      remote: [],
      remotePorts: [],
      listeners: [],
    });
  });

  test("routes keep their order and know their place", () => {
    const text = '[[route]]\nport = 1\nto = "deny"\n\n[[route]]\n# a comment\nport = 2\nto = "unix:/a"\n';
    const { routes } = configurationOf(text).draft.tables[0]!;
    expect(routes.map(({ localPorts, place }) => [localPorts[0]!.first, place.line, place.column])).toEqual([
      [1, 1, 1],
      [2, 5, 1],
    ]);
  });

  test("routes may be written in any way that TOML has for a list of tables", () => {
    const inline = 'route = [\n  { port = 1, to = "deny" },\n  { "port" = 2, to = \'unix:/a\' },\n]';
    const { routes } = configurationOf(inline).draft.tables[0]!;
    expect(routes.map(({ localPorts, place }) => [localPorts[0]!.first, place.line, place.column])).toEqual([
      [1, 2, 3],
      [2, 3, 3],
    ]);
  });
});

describe("to", () => {
  test("takes every kind of receiver", () => {
    expect(receiverOf("unix:/run/a")).toEqual({ kind: "unix", path: "/run/a" });
    expect(receiverOf("unix:@a")).toEqual({ kind: "unix", path: "@a" });
    expect(receiverOf("fd:0")).toEqual({ kind: "fd", fd: 0 });
    expect(receiverOf("slot:4294967295")).toEqual({ kind: "slot", slot: 4294967295 });
    expect(receiverOf("slot:web", "[slots]\nweb = 7")).toEqual({ kind: "slot", slot: 7 });
  });

  test.each(["{port}", "{local}", "{group0}", "{group7}"])("%s makes a path a template", (placeholder) => {
    const path = `/run/${placeholder}/s`;
    expect(receiverOf(`unix:${path}`)).toEqual({ kind: "unix", path, fill: "braces" });
  });

  test("deny refuses", () => {
    expect(routeOf(ROUTE).action).toEqual({ kind: "deny" });
  });

  test("table:NAME goes on in [[table.NAME.route]]", () => {
    const { draft } = configurationOf(
      '[[route]]\nto = "table:a b"\n[[table."a b".route]]\nto = "table:c"\n[[table.c.route]]\nto = "deny"',
    );
    expect(draft.tables.map(({ name }) => name)).toEqual(["main", "a b", "c"]);
    expect(draft.tables[0]!.routes[0]!.action).toEqual({ kind: "table", table: "a b" });
  });

  test("target:NAME is the receiver of [target.NAME] with its settings", () => {
    const text = '[[route]]\nto = "target:web"\n[target.web]\nto = "unix:/run/web"\nqueue = 5\nwait = 2.5\n';
    expect(targetOf(text)).toEqual({
      name: "web",
      receivers: [{ kind: "unix", path: "/run/web" }],
      balance: "round-robin",
      fallback: false,
      spread: false,
      queue: 5,
      waitMs: 2500,
    });
  });

  test("a target may have several receivers, which share its settings", () => {
    const text = `[[route]]
to = "target:web"
[slots]
web = 7
[target.web]
to = ["unix:/run/{port}", "unix:@b", "slot:web"]
balance = "source-hash"
fallback = true
`;
    expect(targetOf(text)).toEqual({
      name: "web",
      receivers: [
        { kind: "unix", path: "/run/{port}", fill: "braces" },
        { kind: "unix", path: "@b" },
        { kind: "slot", slot: 7 },
      ],
      balance: "source-hash",
      fallback: true,
      spread: false,
      queue: 1024,
      waitMs: 10_000,
    });
  });

  test.each([
    ["0", 0],
    ["10", 10_000],
    ["0.25", 250],
    ['"500ms"', 500],
    ['"10s"', 10_000],
    ['"2m"', 120_000],
    ["3600", 3_600_000],
    ['"60m"', 3_600_000],
    ['"1h"', 3_600_000],
    ['"1.5s"', 1500],
    ['"10"', 10_000],
  ])("wait = %s", (value, ms) => {
    expect(targetOf(`[[route]]\nto = "target:a"\n[target.a]\nto = "fd:3"\nwait = ${value}`).waitMs).toBe(ms);
  });

  test("without settings 1024 connections wait at most, and each 10 seconds", () => {
    expect(targetOf('[[route]]\nto = "fd:3"')).toMatchObject({ name: "fd:3", queue: 1024, waitMs: 10_000 });
  });

  test("all routes to one receiver share one target, and with it one queue", () => {
    const { routes } = configurationOf(
      '[[route]]\nport = 1\nto = "unix:/a"\n[[route]]\nport = 2\nto = "unix:/a"\n[[route]]\nto = "unix:/b"',
    ).draft.tables[0]!;
    const targets = routes.map(({ action }) => action.kind === "target" && action.target);
    expect(targets[0]).toBe(targets[1]!);
    expect(targets[0]).not.toBe(targets[2]!);
  });

  test("names that every object has are names like any other", () => {
    const text =
      '[[route]]\nto = "table:constructor"\n[[table.constructor.route]]\nto = "table:__proto__"\n[[table.__proto__.route]]\nto = "target:valueOf"\n[target.valueOf]\nto = "slot:toString"\n[slots]\ntoString = 3';
    expect(faultsOf(FILE, text)).toEqual([]);
    expectFault(
      '[[route]]\nto = »"table:constructor"',
      'error: there is no table "constructor"; expected [[table.constructor.route]], or another action',
    );
    expectFault(
      '[[route]]\nto = »"target:toString"',
      'error: there is no target "toString"; expected [target.toString], or another action',
    );
    expectFault(
      '[[route]]\nto = »"slot:valueOf"',
      'error: there is no slot "valueOf"; expected a number, or a name in [slots]',
    );
    expectFault(
      `${ROUTE}\n[table.constructor]\nroute = »3`,
      "error: route is 3; expected [[table.NAME.route]]",
    );
    expectFault(
      `${ROUTE}\n[target]\nprototype = »3`,
      "error: prototype is 3; expected to, balance, fallback, spread, queue, wait",
    );
    expectFault(`${ROUTE}\n[slots]\n__proto__ = »-1`, "error: __proto__ is -1; expected 0 to 4294967295");
    expectFault(
      `»constructor = 1\n${ROUTE}`,
      'error: unknown key "constructor"; expected server, listen, route, table, target, registry, slots',
    );
  });
});

const LISTEN_KEYS =
  "name, address, port, transparent, freebind, reuse-address, reuse-port, backlog, clear-transparent, netns, device, proxy, proxy-from, proxy-timeout";
const RECEIVERS = '"unix:/path", "unix:@name", "fd:N" or "slot:N"';
const ACTIONS = '"unix:/path", "unix:@name", "fd:N", "slot:N", "table:NAME", "target:NAME" or "deny"';
const ADDRESSES = '"ADDRESS", "ADDRESS/LENGTH" or "ADDRESS/MASK"';
const PORTS = '1 to 65535, or a range such as "8000-8010"';
const WAITS = 'seconds, or "500ms", "10s", "2m", "1h"';

describe("a fault is said with its line and column, and with what was expected:", () => {
  describe.each([
    [
      "the top",
      [
        ["»bogus = 1", 'unknown key "bogus"; expected server, listen, route, table, target, registry, slots'],
        ["[»servr]", 'unknown key "servr"; expected server, listen, route, table, target, registry, slots'],
        ["server = »1", "server is 1; expected user, group, groups, chroot, workers"],
        ["server = »2026-01-01", "server is a date; expected user, group, groups, chroot, workers"],
        ["»[[server]]", "server is a list; expected user, group, groups, chroot, workers"],
        ["»[[table]]\nroute = []", "table is a list; expected [[table.NAME.route]]"],
        ['»[[target.x]]\nto = "fd:3"', "x is a list; expected to, balance, fallback, spread, queue, wait"],
        ["slots = »[]", "slots is an empty list; expected NAME = NUMBER"],
        ["[table]\nx = »1", "x is 1; expected route"],
        ["[table.x]\n»routes = []", 'unknown key "routes"; expected route'],
        [
          '[[table.»main.route]]\nto = "deny"',
          'the table "main" is the one of the routes at the top; expected [[route]], or another name',
        ],
      ],
    ],
    [
      "[server]",
      [
        ['[server]\n»usr = "x"', 'unknown key "usr"; expected user, group, groups, chroot, workers'],
        [
          '[server]\nuser = »"a\\u0000b"',
          'user "a\\u{0}b" has a control character; expected characters that can be seen',
        ],
        ['[server]\nuser = »""', 'user is ""; expected a user\'s name or number'],
        ["[server]\nuser = »true", "user is true; expected a user's name or number"],
        ["[server]\nuser = »-1", "user is -1; expected a user's name or number"],
        ["[server]\nuser = »4294967295", "user is 4294967295; expected a user's name or number"],
        ['[server]\ngroups = »"a"', 'groups is "a"; expected a list of groups'],
        ['[server]\ngroups = ["a", »false]', "groups is false; expected a group's name or number"],
        ['[server]\nchroot = »"var"', 'chroot "var" is relative; expected an absolute path'],
        ["[server]\nworkers = »0", "workers is 0; expected 1 to 64"],
        ["[server]\nworkers = »65", "workers is 65; expected 1 to 64"],
        ["[server]\nworkers = »1.5", "workers is 1.5; expected 1 to 64"],
      ],
    ],
    [
      "[[listen]]",
      [
        ["[[listen]]\n»reuse_port = true", `unknown key "reuse_port"; expected ${LISTEN_KEYS}`],
        ["[[listen]]\nport = »65536", "port is 65536; expected 0 to 65535"],
        ['[[listen]]\nport = »"80"', 'port is "80"; expected 0 to 65535'],
        [
          '[[listen]]\naddress = »"x"',
          'address "x" is not an address; expected an IPv6 or a dotted IPv4 address',
        ],
        [
          '[[listen]]\naddress = »"::/0"',
          'address "::/0" is not an address; expected an IPv6 or a dotted IPv4 address',
        ],
        [
          '[[listen]]\naddress = »"fe80::1%eth0"',
          'scope "eth0" is not a plain decimal number; expected the number of the interface',
        ],
        [
          '[[listen]]\naddress = »"fe80::1%0"',
          "scope 0 is out of range; expected the number of the interface",
        ],
        ["[[listen]]\nbacklog = »0", "backlog is 0; expected 1 to 2147483647"],
        ["[[listen]]\ntransparent = »1", "transparent is 1; expected true or false"],
        ['[[listen]]\nnetns = »""', 'netns is ""; expected a name or an absolute path'],
        ['[[listen]]\nnetns = »"a/b"', 'netns "a/b" is relative; expected a name or an absolute path'],
        [
          '[[listen]]\ndevice = »"interface-of-16b"',
          'device "interface-of-16b" is too long; expected at most 15 bytes',
        ],
        ["[[listen]]\ndevice = »7", "device is 7; expected an interface's name"],
        [
          '[[listen]]\nname = "a"\n[[listen]]\nport = 1\nname = »"a"',
          'a second listener "a"; expected each name once',
        ],
        [
          '[[listen]]\nport = 80\n»[[listen]]\nport = 80\naddress = "::"',
          "a second listener at [::]:80; expected each address and port once",
        ],
        [
          "[[listen]]\nport = 80\nreuse-port = true\n»[[listen]]\nport = 80",
          "a second listener at [::]:80; expected each address and port once",
        ],
        ["»[listen]\nport = 80", "listen is a table; expected [[listen]]"],
        ["listen = [»3]", `listen is 3; expected ${LISTEN_KEYS}`],
      ],
    ],
    [
      "[[route]]",
      [
        [
          '[[route]]\nlocal = »"x"\nto = "deny"',
          'local "x" is not an address; expected an IPv6 or a dotted IPv4 address',
        ],
        [
          '[[route]]\nlocal = ["::1", »"x"]\nto = "deny"',
          'local "x" is not an address; expected an IPv6 or a dotted IPv4 address',
        ],
        [
          '[[route]]\nremote = »"::/129"\nto = "deny"',
          "remote mask length 129 is out of range; expected 0 to 128",
        ],
        [
          '[[route]]\nremote = »"10.0.0.0/ff::"\nto = "deny"',
          'remote mask "ff::" does not fit the address; expected a length, 0 to 32, or a dotted mask',
        ],
        ['[[route]]\nlocal = »[]\nto = "deny"', `local is an empty list; expected ${ADDRESSES}`],
        ['[[route]]\nlocal = »3\nto = "deny"', `local is 3; expected ${ADDRESSES}`],
        ['[[route]]\nport = »0\nto = "deny"', `port is 0; expected ${PORTS}`],
        ['[[route]]\nport = [1, »70000]\nto = "deny"', `port is 70000; expected ${PORTS}`],
        ['[[route]]\nport = »80.5\nto = "deny"', `port is 80.5; expected ${PORTS}`],
        ['[[route]]\nport = »"8010-8000"\nto = "deny"', 'port "8010-8000" counts down; expected "8000-8010"'],
        ['[[route]]\nport = »"0-9"\nto = "deny"', "port 0 is out of range; expected 1 to 65535"],
        [
          '[[route]]\nremote-port = [80, »"x"]\nto = "deny"',
          'remote-port "x" is not a plain decimal number; expected 1 to 65535',
        ],
        ['[[route]]\nlistener = »"nope"\nto = "deny"', 'there is no listener "nope"; expected "main"'],
        [
          '[[route]]\n»ports = 80\nto = "deny"',
          'unknown key "ports"; expected local, port, remote, remote-port, listener, to',
        ],
        ['»[[route]]\nlocal = "::1"', `there is no "to"; expected ${ACTIONS}`],
        [
          '[[table.a.route]]\nto = "deny"\n»[[table.a.route]]\nport = 80',
          `there is no "to"; expected ${ACTIONS}`,
        ],
        ['[[route]]\nto = »"accept"', `"accept" is no place to go to; expected ${ACTIONS}`],
        ["[[route]]\nto = »5", `to is 5; expected ${ACTIONS}`],
        ['[[route]]\nto = »"unix:run/a"', 'path "run/a" is relative; expected /path or @name'],
        ['[[route]]\nto = »"unix:"', 'path "" names nothing; expected /path or @name'],
        [
          '[[route]]\nto = »"unix:/run/{prt}"',
          'path "/run/{prt}" has "{prt}"; expected {port}, {local} or {group0} to {group7}',
        ],
        [
          '[[route]]\nto = »"unix:/run/{port"',
          'path "/run/{port" has "{port"; expected {port}, {local} or {group0} to {group7}',
        ],
        [
          '[[route]]\nto = »"unix:/run/a}"',
          'path "/run/a}" has "}"; expected {port}, {local} or {group0} to {group7}',
        ],
        [
          '[[route]]\nto = »"unix:@a\\u0000b"',
          'path "@a\\u{0}b" has a control character; expected characters that can be seen',
        ],
        ['[[route]]\nto = »"fd:x"', 'descriptor "x" is not a plain decimal number; expected 0 to 2147483647'],
        ['[[route]]\nto = »"slot:web"', 'there is no slot "web"; expected a number, or a name in [slots]'],
        ['[[route]]\nto = »"slot:4294967296"', "slot 4294967296 is out of range; expected 0 to 4294967295"],
        [
          '[[route]]\nto = »"target:web"',
          'there is no target "web"; expected [target.web], or another action',
        ],
        [
          '[[table.x.route]]\nto = »"table:y"',
          'there is no table "y"; expected [[table.y.route]], or one of "x"',
        ],
        [
          'route = [\n  { to = "deny", port = 1 },\n  { local = »"q", to = "deny" },\n]',
          'local "q" is not an address; expected an IPv6 or a dotted IPv4 address',
        ],
        ['"route" = [{ "to" = »\'nowhere\' }]', `"nowhere" is no place to go to; expected ${ACTIONS}`],
      ],
    ],
    [
      "[target.NAME] and [slots]",
      [
        ["»[target.a]\nqueue = 1", `there is no "to"; expected ${RECEIVERS}`],
        ['[target.a]\nto = »"deny"', `"deny" is no place to go to; expected ${RECEIVERS}`],
        ['[target.a]\nto = »"table:x"', `"table:x" is no place to go to; expected ${RECEIVERS}`],
        ["[target.a]\nto = »[]", `to is an empty list; expected ${RECEIVERS}`],
        ['[target.a]\nto = ["fd:3", »"deny"]', `"deny" is no place to go to; expected ${RECEIVERS}`],
        ['[target.a]\nto = ["fd:3", »7]', `to is 7; expected ${RECEIVERS}`],
        ['[target.a]\nto = ["fd:3", »"unix:a"]', 'path "a" is relative; expected /path or @name'],
        [
          '[target.a]\nto = ["fd:3", "fd:4", »"fd:3"]',
          'a second receiver "fd:3"; expected each receiver once',
        ],
        [
          '[target.a]\nto = "fd:3"\nbalance = »"random"',
          'balance is "random"; expected "round-robin", "least-waiting", "source-hash"',
        ],
        ['[target.a]\nto = "fd:3"\nfallback = »1', "fallback is 1; expected true or false"],
        ['[target.a]\nto = "fd:3"\nspread = »"yes"', 'spread is "yes"; expected true or false'],
        [
          '[target.a]\nto = ["unix:/a", »"slot:1"]\nspread = true',
          'spread does not go with "slot:1"; expected paths alone',
        ],
        [
          `[target.a]\nto = »"unix:/${"x".repeat(104)}"\nspread = true`,
          `path "/${"x".repeat(59)}…" has 108 bytes; expected at most 107`,
        ],
        ['[target.a]\nto = "fd:3"\nqueue = »0', "queue is 0; expected 1 to 1000000"],
        ['[target.a]\nto = "fd:3"\nwait = »-1', `wait is -1; expected ${WAITS}`],
        ['[target.a]\nto = "fd:3"\nwait = »"10x"', `wait is "10x"; expected ${WAITS}`],
        ['[target.a]\nto = "fd:3"\nwait = »"61m"', 'wait "61m" is too long; expected at most 3600 seconds'],
        ['[target.a]\nto = "fd:3"\nwait = »3601', "wait is 3601; expected 0 to 3600"],
        ["[slots]\nweb = »-1", "web is -1; expected 0 to 4294967295"],
        ['[slots]\nweb = »"1"', 'web is "1"; expected 0 to 4294967295'],
      ],
    ],
    [
      "[[registry]]",
      [
        [`»[[registry]]\n${ALLOW}`, 'there is no "path"; expected /path or @name'],
        ['»[[registry]]\npath = "/r"', 'there is no "allow"; expected [[registry.allow]]'],
        ['[[registry]]\npath = "/r"\n»[[registry.allow]]', `there is no "slot"; expected ${SLOTS}`],
        [`[[registry]]\npath = »"r"\n${ALLOW}`, 'path "r" is relative; expected /path or @name'],
        [
          `[[registry]]\npath = "/r"\n${ALLOW}[[registry]]\npath = »"/r"\n${ALLOW}`,
          'a second registry at "/r"; expected each path once',
        ],
        [
          `[[registry]]\npath = "/r"\nmode = »"rw"\n${ALLOW}`,
          'mode is "rw"; expected permission bits in octal, such as "0660"',
        ],
        [`[[registry]]\npath = "/r"\nper-user = »0\n${ALLOW}`, "per-user is 0; expected 1 to 100000"],
        [
          '[[registry]]\npath = "/r"\n[[registry.allow]]\nslot = [1, »"web"]',
          'there is no slot "web"; expected a number, or a name in [slots]',
        ],
        [
          '[[registry]]\npath = "/r"\n[[registry.allow]]\nslot = 1\nuser = »-1',
          "user is -1; expected a user's name or number",
        ],
      ],
    ],
  ])("%s", (_, cases) => {
    test.each(cases)("%j", (written, message) => {
      const { text, places } = marked(written!.includes("route") ? written! : `${written}\n${ROUTE}`);
      const errors = faultsOf(FILE, text).filter((fault) => !fault.includes("there is no route,"));
      expect(errors).toEqual([`${places[0]}: error: ${message}`]);
    });
  });

  test.each([
    ["x = »", "invalid value; expected TOML"],
    ["[[route]»\n", "expected end of table array declaration; expected TOML"],
    ["a = 1\n»a = 2", "trying to redefine an already defined table or value; expected TOML"],
    ["[[route]]\nport = »9007199254740993", "integer value cannot be represented losslessly; expected TOML"],
  ])("%j is not TOML", (written, message) => {
    const { text } = marked(written);
    const [fault, ...others] = faultsOf(FILE, text);
    expect(fault).toMatch(/^[12]:\d+: error: /);
    expect(fault).toEndWith(`error: ${message}`);
    expect(others).toEqual([]);
  });

  test("every key that is not known is named, not only the first of its table", () => {
    const { text, places } = marked(
      `»a = 1\n»b = 2\n${ROUTE}»c = 3\n»d = 4\n[server]\n»e = 5\n»f = 6\n»g = 7`,
    );
    const faults = faultsOf(FILE, text);
    expect(faults.map((fault) => fault.replace(/ error:.*unknown key "(.)".*/, "$1"))).toEqual(
      places.map((place, index) => `${place}:${"abcdefg"[index]}`),
    );
  });

  test.each([
    "",
    "# nothing\n",
    "[server]\nworkers = 1\n",
    "route = []\n",
    '[[table.a.route]]\nto = "deny"\n',
  ])("%j has no route", (text) => {
    const faults = faultsOf(FILE, text);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(/^1:\d+: error: there is no route, .*; expected \[\[route\]\]$/);
  });

  test.each([
    ['[server]\nchroot = »"/\\n"', "chroot"],
    ['[server]\ngroups = ["a", »"\\u0000"]', "groups"],
    ['[[listen]]\nnetns = »"\\u0000"', "netns"],
    ['[[listen]]\ndevice = »"\\u0000"', "device"],
    ['[[listen]]\nname = »"\\u001b[2J"', "name"],
    ['[table.»"\\u0007"]', "table"],
    ['[target.»"a\\u2028b"]\nto = "fd:3"', "target"],
    ['[slots]\n»"\\n" = 1', "slots"],
  ])(
    "%j: a name that the kernel would cut short, a terminal obey, or a log take for two lines",
    (written, name) => {
      const { text, places } = marked(`${written}\n${ROUTE}`);
      const [fault, ...others] = faultsOf(FILE, text);
      expect(fault).toStartWith(`${places[0]}: error: ${name} "`);
      expect(fault).toEndWith(" has a control character; expected characters that can be seen");
      expect(others).toEqual([]);
    },
  );

  test("a text too long for the parser that keeps places is still refused for what is wrong with it", () => {
    expect(faultsOf(FILE, `[[route]]\nto = "unix:/${"x".repeat(5_000_000)}"`)).toEqual([
      expect.stringContaining("has 5000001 bytes; expected at most 107"),
    ]);
  });

  test("a path of 107 bytes is taken, one of 108 is not, nor one that can be filled in to more", () => {
    const path = `/${"ü".repeat(53)}`;
    expect(receiverOf(`unix:${path}`)).toEqual({ kind: "unix", path });
    expectFault(
      `[[route]]\nto = »"unix:${path}x"`,
      `error: path "${path}x" has 108 bytes; expected at most 107`,
    );
    const template = `/${"x".repeat(40)}/{port}/{local}`;
    expect(faultsOf(FILE, `[[route]]\nto = "unix:${template}${"x".repeat(21)}"`)[0]).toContain("108 bytes");
    expect(faultsOf(FILE, `[[route]]\nto = "unix:${template}${"x".repeat(20)}"`)).toEqual([]);
  });

  test("tables that jump in a circle", () => {
    expectFault(
      '[[route]]\nto = "table:a"\n[[table.a.route]]\nto = "table:b"\n»[[table.b.route]]\nto = "table:a"',
      "error: tables a -> b -> a jump in a circle",
    );
  });

  test("every error is said at once, circles too, in the order of the file", () => {
    const { text, places } = marked(`
»bogus = 1
[server]
workers = »0
[[listen]]
address = »"x"
[[route]]
local = [»"y", "::1", »"z"]
port = »0
to = »"nowhere"
[[route]]
to = "table:a"
»[[table.a.route]]
to = "table:a"
[[table.a.route]]
to = »"table:b"
[target.a]
to = »"deny"
queue = »0
`);
    expect(faultsOf(FILE, text).map((fault) => fault.slice(0, fault.indexOf(" ") - 1))).toEqual(places);
  });
});

describe("warnings", () => {
  test.each([
    [
      '[[route]]\nlocal = »"2001:db8::1/64"\nto = "deny"',
      "local 2001:db8::1/64 has bits that its mask does not compare; expected 2001:db8::/64",
    ],
    [
      '[[route]]\nremote = ["::1", »"10.0.0.1/8"]\nto = "deny"',
      "remote 10.0.0.1/8 has bits that its mask does not compare; expected 10.0.0.0/8",
    ],
    [
      `${ROUTE}»[[route]]\nlocal = "::1"\nto = "unix:/a"`,
      `this route is never reached: ${FILE}:1:1 takes all that it would`,
    ],
    [`[[table.»x.route]]\nto = "deny"\n${ROUTE}`, "no jump leads from table main to table x"],
  ])("%j", (written, message) => {
    expectFault(written, `warning: ${message}`);
  });

  test("65 shapes are one too many to be silent about, 64 are not", () => {
    const routes = (count: number) =>
      Array.from(
        { length: count },
        (_, n) => `[[route]]\nlocal = "::/${count - n}"\nport = 80\nto = "unix:/run/${n}"\n`,
      ).join("");
    expect(faultsOf(FILE, routes(64))).toEqual([]);
    expect(faultsOf(FILE, routes(65))).toEqual([
      "1:1: warning: table main compares flows in 65 different ways, and each costs a search; expected at most 64: fewer prefix lengths, rounder port ranges",
    ]);
  });

  test("what was warned of is compared without the bits that do not count", () => {
    expect(routeOf('[[route]]\nlocal = "10.0.0.1/8"\nto = "deny"').local.map(formatPattern)).toEqual([
      "10.0.0.0/8",
    ]);
  });
});

describe("which language", () => {
  test("a name that ends in .toml is TOML, any other the line format", () => {
    expect(readConfiguration("/etc/a.toml", ROUTE).diagnostics).toEqual([]);
    expect(readConfiguration("/etc/a.conf", "rule-set:0\nfail").diagnostics).toEqual([]);
    expect(readConfiguration("/etc/toml", "rule-set:0\nfail").diagnostics).toEqual([]);
    expect(readConfiguration("/etc/a.toml.old", ROUTE).configuration).toBeUndefined();
  });
});

test("a fault has its place beside words of a megabyte, too", () => {
  const huge = "x".repeat(1_000_000);
  const text = `[slots]\nbad = "${huge}"\n[[route]]\nport = ["${huge}", 0]\nto = "unix:/${huge}"`;
  const places = faultsOf("f.toml", text).map((fault) => fault.slice(0, fault.indexOf(": ")));
  expect(places).toEqual(["2:7", "4:9", `4:${9 + 1_000_002 + 2}`, "5:6"]);
});

test("listeners may be at one port where that can be: other addresses, interfaces, namespaces, or shared", () => {
  const places = ["", 'address = "::1"\n', 'address = "::1%1"\n', 'device = "lo"\n', 'netns = "n"\n'];
  const passed = ['name = "passed-1"', 'name = "passed-2"']; // a service manager says where these are
  const listen = [...places.map((place) => `${place}port = 80`), "port = 0", "port = 0", ...passed];
  const shared = "port = 81\nreuse-port = true";
  const text = [...listen, shared, shared].map((keys) => `[[listen]]\n${keys}\n`).join("");
  expect(faultsOf("f.toml", `${text}[[route]]\nto = "deny"`)).toEqual([]);
});

test("what is wrong in listeners is not taken for one place twice", () => {
  const { text, places } = marked(
    '[[listen]]\nport = »70000\n[[listen]]\nport = 1\n[[listen]]\nport = 1\naddress = »"y"\n[[listen]]\nport = 1\naddress = »7\n',
  );
  const faults = faultsOf("f.toml", `${text}[[route]]\nto = "deny"`);
  expect(faults.map((fault) => fault.slice(0, fault.indexOf(": ")))).toEqual(places);
});

test("a jump to the table at the top has no table to suggest", () => {
  expect(faultsOf("f.toml", '[[route]]\nto = "table:main"')).toEqual([
    "2:6: error: a jump to the table of the routes at the top, where every lookup starts; expected another",
  ]);
});
