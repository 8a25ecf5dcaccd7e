import { expect, test } from "bun:test";
import { relay } from "../../src/cli/relay.ts";
import { EXIT, Failure, type Host } from "../../src/programs/host.ts";

const host = { name: "socketbox-relay", env: {} } as unknown as Host;

async function refusal(args: string): Promise<string> {
  try {
    await relay(host, args.split(" "));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    expect(error.code).toBe(EXIT.usage);
    return error.message;
  }
  throw new Error("it ran");
}

test.each([
  ["-s /a --register 1:/b", "options -s, -e and --register exclude each other"],
  ["-c ::1 -u /a", "options -c and -u exclude each other"],
  ["--to [::1]:80 -p 81", "option --to stands for -c, -p, -I, -n and -u, and excludes them"],
  ["-I lo -n 1", "options -I and -n exclude each other"],
  ["-I nowhere -c fe80::1", '-I: there is no interface "nowhere"; expected an interface\'s name or number'],
  ["-c fe80::1", "-c: fe80::1 is link-local; its interface (-I or -n) is missing"],
  ["--to [fe80::1]:80", '--to: "fe80::1" is link-local; expected its interface, too: [fe80::1%eth0]:80'],
  ["-c 1.2.3", '-c: "1.2.3" is not an address; expected one such as :: or 192.0.2.1'],
  ["-p 0", '-p: "0" is out of range; expected 1 to 65535'],
  ["-p 65616", '-p: "65616" is out of range; expected 1 to 65535'],
  ["-P 64:ff9b::", "option -P needs -N or -x"],
  ["-N -P 64:ff9b::/64", '-P: "64:ff9b::/64" is not an address; expected one such as :: or 192.0.2.1'],
  ["-N --to a.example:80", "NAT64 replaces the last bits of an address, and --to has a name"],
  ["-i --send-proxy v2", "options -i and --send-proxy exclude each other"],
  ["--send-proxy v3", '--send-proxy: "v3" is not a version; expected v1 or v2'],
  ["--config /a -p 80", "--port is about one relay, and --config describes all"],
  ["--per-source 0", "--per-source: per-source 0 is out of range; expected 1 to 1000000"],
  ["--log xml", '--log: "xml" is not a form; expected text, json, none'],
  ["-l systemd:", '-l: "systemd:" has no name; expected "systemd:NAME"'],
])("%s is refused: %s", async (args, message) => {
  expect(await refusal(args)).toStartWith(message);
});
