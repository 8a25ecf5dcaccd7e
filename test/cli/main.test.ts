import { afterAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import packageFile from "../../package.json" with { type: "json" };
import { EXIT } from "../../src/programs/host.ts";
import { call } from "../kit/called.ts";
import { bin, run, scratch } from "../kit/running.ts";

const NAMES = Object.keys(packageFile.bin);

const folder = scratch();
afterAll(() => folder[Symbol.dispose]());
const conf = folder.file("good.conf");
writeFileSync(conf, "rule-set:0\nip:2001:db8::1 jump-unix:/run/a\ndefault fail\n");

describe("every program", () => {
  test.each(NAMES)("%s prints its name and version, and nothing else", async (name) => {
    const expected = { code: 0, out: `${name} ${packageFile.version}\n`, log: [] };
    expect(await call(name, ["--version"])).toEqual(expected);
    expect(await call(name, ["-V"])).toEqual(expected);
  });

  test.each(NAMES)(
    "%s prints its help on standard output, by either name, among other options too",
    async (name) => {
      const { code, out, log } = await call(name, ["--help"]);
      expect({ code, log }).toEqual({ code: 0, log: [] });
      expect(out).toContain(`USAGE ${name} `);
      expect(await call(name, ["-h"])).toEqual({ code, out, log });
    },
  );

  test.each(NAMES)("%s does not go to work when its version is asked for among options", async (name) => {
    const option =
      {
        "send-receive-fd": "-r3",
        "socket-query": "-l",
        "socketbox-relay": "-e",
        "socketbox-preload": "--no-follow",
      }[name] ?? "-k";
    expect(await call(name, [option, "-V", "word", "/bin/true"])).toEqual({
      code: EXIT.usage,
      out: "",
      log: [`option --version stands alone; see ${name} --help`],
    });
  });

  test.each(NAMES)("%s says on its log that an option is unknown, and where to look", async (name) => {
    expect(await call(name, ["--nope"])).toEqual({
      code: EXIT.usage,
      out: "",
      log: [`there is no option --nope; see ${name} --help`],
    });
  });

  test.each(NAMES)("%s takes no option of every object for one of its own", async (name) => {
    for (const word of ["--constructor", "--__proto__", "--toString"]) {
      expect((await call(name, [word])).code).toBe(EXIT.usage);
    }
  });

  test.each(NAMES)("%s --help has no line over 120 columns", async (name) => {
    const { out } = await call(name, ["--help"]);
    expect(out.split("\n").filter((line) => line.length > 120)).toEqual([]);
  });

  test("a name that is none of them is refused with the names that are", async () => {
    for (const name of ["nginx", "constructor", "__proto__"]) {
      const { code, log } = await call(name, []);
      expect(code).toBe(EXIT.usage);
      expect(log[0]).toContain(NAMES[0]!);
    }
  });
});

describe("-h that is not for us", () => {
  test("behind -- or behind the program's name belongs to the program", async () => {
    // It would be help, and exit code 0, if it were ours.
    const program = [folder.file("s"), "/no/such/program"];
    for (const words of [
      ["--", ...program, "-h"],
      [...program, "--help"],
    ]) {
      const { code, out } = await run([bin("socketbox-inetd"), ...words]);
      expect(code).toBe(EXIT.system);
      expect(out).toContain("find program /no/such/program: ENOENT");
    }
  });

  test("behind -- is a word too many where there is no program", async () => {
    expect(await call("socketbox", ["--", "-h"])).toEqual({
      code: EXIT.usage,
      out: "",
      log: ['"-h" is one word too many; see socketbox --help'],
    });
  });
});

describe("exit codes", () => {
  // As processes of their own: a program that catches signals does so once in a process.
  test.each<[string, string[], string[], number]>([
    ["0: answered", ["socketbox"], ["check", "-f", conf], EXIT.ok],
    ["1: a configuration that is not there", ["socketbox"], ["check", "-f", "/no/such/file"], EXIT.refused],
    ["2: the command line", ["socketbox"], ["-p", "65536"], EXIT.usage],
    ["3: the kernel", ["socketbox-inetd"], ["/no/such/folder/s", "/bin/true"], EXIT.system],
    [
      "3: a program that is not there",
      ["socketbox-inetd"],
      [folder.file("s"), "no-such-program"],
      EXIT.system,
    ],
    [
      "3: a user that is not there",
      ["socketbox-inetd"],
      ["-u", "no-such-user", folder.file("s"), "/bin/true"],
      EXIT.system,
    ],
    [
      "3: a group that is not there",
      ["socketbox-inetd"],
      ["-g", "no-such-group", folder.file("s"), "/bin/true"],
      EXIT.system,
    ],
    ["3: a descriptor that is no socket", ["socket-query"], ["-f", "999"], EXIT.system],
  ])("%s", async (_, [name], argv, code) => {
    const ended = await run([bin(name!), ...argv]);
    expect(`${ended.code} ${ended.out}`).toStartWith(`${code} `);
    expect(ended.out).not.toContain("fault of ours");
  });
});

describe("socketbox", () => {
  test.each([
    [["constructor"], '"constructor" is no command; expected check, explain, or options'],
    [["chekc"], '"chekc" is no command; expected check, explain, or options'],
    [[""], '"" is no command; expected check, explain, or options'],
    [["-f", "/a", "check"], '"check" is a command; expected it before the options'],
    [["-t", "chekc"], '"chekc" is one word too many'],
    [["-f", ""], "-f: the path is empty"],
    [["check", "-f", ""], "-f: the path is empty"],
    [["-p", "65536"], '-p: "65536" is out of range; expected 0 to 65535'],
    [["-p", "80x"], '-p: "80x" is not a number; expected 0 to 65535'],
    [["-p", "+80"], '-p: "+80" is not a number; expected 0 to 65535'],
    [
      ["-l", "localhost"],
      '-l: address "localhost" is not an address; expected an IPv6 or a dotted IPv4 address',
    ],
    [["-b", "-1"], '-b: "-1" is not a number; expected 0 to 2147483647'],
    [["-s", "x"], '-s: "x" is not a number; expected 0 to 2147483647'],
    [["-i", "x"], '-i: "x" is not a number; expected 0 to 2147483647'],
    [["-S", "/a", "-i", "3"], "options -S and -i exclude each other"],
    [["-S", `/${"x".repeat(107)}`], `-S: "/${"x".repeat(107)}" is too long; expected at most 107 bytes`],
    [["-k", "-G", "tty"], "options -k and -G exclude each other"],
    [["-P", "3"], '-P: "3" is not a slot and a path; expected one such as 3:/run/registry'],
    [["-P", "x:/run/r"], '-P: "x:/run/r" is not a slot and a path; expected one such as 3:/run/registry'],
    [["-P", "4294967296:/r"], '-P: "4294967296" is out of range; expected 0 to 4294967295'],
    [["-e"], "option -e needs a program after the options"],
    [["-P", "1:/r", "-s", "0"], "option -P makes no listener, so that -e and -s have none to work with"],
    [["-eP", "1:/r", "p"], "option -P makes no listener, so that -e and -s have none to work with"],
    [["-P", "1:@"], '-P: "@" names nothing'],
    [["--takeover", ""], '--takeover: "" names nothing'],
    [["-S", ""], '-S: "" names nothing'],
    [["-S", "@"], '-S: "@" names nothing'],
    [["-x", ""], "-x: the path is empty"],
    [["-tF", "-F"], "option -F is given twice"],
  ])("refuses %p", async (argv, message) => {
    expect(await call("socketbox", argv)).toEqual({
      code: EXIT.usage,
      out: "",
      log: [`${message}; see socketbox --help`],
    });
  });

  test("refuses a SKBOX_STRICT_STREAM_MODE that it cannot read", async () => {
    for (const name of ["socketbox", "socketbox-inetd"]) {
      const argv = name === "socketbox" ? ["-S", "/a"] : [folder.file("s"), "/bin/true"];
      const { code, log } = await call(name, argv, { SKBOX_STRICT_STREAM_MODE: "3" });
      expect({ code, log }).toEqual({
        code: EXIT.usage,
        log: [`SKBOX_STRICT_STREAM_MODE is "3"; expected 0, 1 or 2; see ${name} --help`],
      });
    }
  });
});

describe("socketbox-inetd", () => {
  test.each([
    [[], "a socket and a program are needed: SOCKET PROGRAM [ARG…]"],
    [["/s"], "a socket and a program are needed: SOCKET PROGRAM [ARG…]"],
    [["", "p"], 'SOCKET: "" names nothing'],
    [["@", "p"], 'SOCKET: "@" names nothing'],
    [[`/${"x".repeat(107)}`, "p"], `SOCKET: "/${"x".repeat(107)}" is too long; expected at most 107 bytes`],
    [["--max", "0", "/s", "p"], '--max: "0" is out of range; expected 1 to 1000000'],
    [
      ["--per-source", "1/129", "/s", "p"],
      "--per-source: per-source length 129 is out of range; expected 1 to 128",
    ],
    [
      ["--per-source", "1/2/3", "/s", "p"],
      '--per-source: "1/2/3" has too many parts; expected "N" or "N/LENGTH"',
    ],
    [["--rate", "5/0", "/s", "p"], "--rate: a window of no length; expected one such as 1s"],
    [["--rate", "5/x", "/s", "p"], '--rate: "x" is not a duration; expected one such as 500ms, 10s or 2m'],
    [["--rate", "5/1s/2s", "/s", "p"], '--rate: "5/1s/2s" has too many parts; expected N or N/TIME'],
    [["--drain", "-1", "/s", "p"], '--drain: "-1" is not a duration; expected one such as 500ms, 10s or 2m'],
    [["-k", "-G", "0", "/s", "p"], "options -k and -G exclude each other"],
  ])("refuses %p", async (argv, message) => {
    expect((await call("socketbox-inetd", argv)).log).toEqual([`${message}; see socketbox-inetd --help`]);
  });

  test.each([
    [["/s", "3"], "a socket, a slot and a program are needed: SOCKET NR PROGRAM [ARG…]"],
    [["/s", "x", "p"], 'NR: "x" is not a number; expected 0 to 4294967295'],
    [["/s", "4294967296", "p"], 'NR: "4294967296" is out of range; expected 0 to 4294967295'],
  ])("-p refuses %p", async (argv, message) => {
    expect((await call("socketbox-inetd-p", argv)).log).toEqual([`${message}; see socketbox-inetd-p --help`]);
  });
});

describe("the small tools", () => {
  test.each([
    ["socket-query", ["-lr"], "options -l and -r exclude each other"],
    ["socket-query", ["-lap"], "options -a and -p exclude each other"],
    ["socket-query", ["-a"], "options -a and -p need -l or -r"],
    ["socket-query", ["-f", "x"], '-f: "x" is not a number; expected 0 to 2147483647'],
    ["socket-query", ["word"], '"word" is one word too many'],
    ["send-receive-fd", [], "one of -r and -s is needed"],
    ["send-receive-fd", ["-r", "3", "-s", "4"], "one of -r and -s is needed"],
    ["send-receive-fd", ["-r", "3"], "-r needs a program to run"],
    ["send-receive-fd", ["-s", "3"], "-s needs the descriptor to send over"],
    ["send-receive-fd", ["-s", "3", "4", "5"], '"5" is one word too many'],
    ["send-receive-fd", ["-s", "3", "x"], 'FD: "x" is not a number; expected 0 to 2147483647'],
  ])("%s refuses %p", async (name, argv, message) => {
    expect((await call(name, argv)).log).toEqual([`${message}; see ${name} --help`]);
  });
});

test.each(NAMES)("%s refuses a word that is not UTF-8, which Bun would have changed", async (name) => {
  const script = 'exec "$0" -x "$(printf "a\\377")"';
  const { code, out } = await run(["/bin/sh", "-c", script, bin(name)]);
  expect(out).toEndWith(`${name}: word 2 of the command line is not UTF-8; see ${name} --help\n`);
  expect(code).toBe(EXIT.usage);
});
