/** `send-receive-fd`: one descriptor through an inherited Unix socket. */
import type { ArgsDef } from "citty";
import type { Host } from "../programs/host.ts";
import { receiveThenExec, sendFd } from "../programs/send.ts";
import { COMMON, noWords, numberOption, parse, printHelp, usage } from "./options.ts";

const FD_MAX = 0x7fffffff;

const OPTIONS = {
  receive: {
    type: "string",
    alias: "r",
    description: "receive a socket on FD, then run PROG [ARG…]",
    valueHint: "FD",
  },
  send: {
    type: "string",
    alias: "s",
    description: "send SEND_FD over the descriptor that follows",
    valueHint: "SEND_FD",
  },
  ...COMMON,
} as const satisfies ArgsDef;

const MORE = `
send-receive-fd -r FD PROG [ARG…]    PROG finds the number of what was received in SKBOX_RECEIVED_FD
send-receive-fd -s SEND_FD FD
`;

export async function send(host: Host, argv: readonly string[]): Promise<number> {
  const { options, words } = parse(argv, OPTIONS);
  const meta = {
    name: host.name,
    description: "Sends or receives one socket over an inherited Unix socket.",
  };
  if (options.help) return printHelp(host, { meta, args: OPTIONS }, { words: "", more: MORE });
  if ((options.receive === undefined) === (options.send === undefined))
    throw usage("one of -r and -s is needed");
  if (options.receive !== undefined) {
    if (words.length === 0) throw usage("-r needs a program to run");
    return receiveThenExec(host, numberOption("-r", options.receive, 0, FD_MAX), words);
  }
  const [over, ...others] = words;
  if (over === undefined) throw usage("-s needs the descriptor to send over");
  noWords(others);
  return sendFd(numberOption("-s", options.send!, 0, FD_MAX), numberOption("FD", over, 0, FD_MAX));
}
