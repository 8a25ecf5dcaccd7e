/** `send-receive-fd`: the hand-off by hand, for scripts. */
import { type Mailbox, receive, wrapMailbox } from "../io/mailbox.ts";
import { isUnixSocket, mustBe } from "../io/socket.ts";
import { exec, findProgram, inheritedFds, passOn, startedWith } from "../io/spawn.ts";
import { check, ERRNO, errnoName } from "../native/errno.ts";
import { native } from "../native/library.ts";
import { FLOW_FD_WORD } from "../native/structs.ts";
import { FLOW_WORDS } from "../routing/record.ts";
import { DATAGRAM_PAYLOAD } from "../wire/handoff.ts";
import { EXIT, Failure, type Host, ownEnvironment, strictMode } from "./host.ts";
import { DROPPED } from "./inetd.ts";

/** Sends a copy of `fd` over `socket`, and waits until there is room for it. */
export function sendFd(fd: number, socket: number): number {
  // TCP would take the byte, and lose the descriptor.
  mustBe(isUnixSocket, socket, `send over descriptor ${socket}`);
  const copy = Int32Array.of(check(native.sb_duplicate(fd), `descriptor ${fd}`));
  for (;;) {
    const result = native.sb_send_fds(socket, copy, 1, DATAGRAM_PAYLOAD, DATAGRAM_PAYLOAD.length);
    if (result === 1) return EXIT.ok;
    if (result !== -ERRNO.EAGAIN) check(result, `send over descriptor ${socket}`);
    Bun.sleepSync(1);
  }
}

/** Waits for one socket, then becomes the program, which finds it under SKBOX_RECEIVED_FD. */
export function receiveThenExec(host: Host, fd: number, command: readonly string[]): never {
  const strict = strictMode(host);
  const inherited = inheritedFds();
  // Before anything is received: what nobody can take is better left where it is.
  const program = findProgram(command[0]!, host.env.PATH);
  using mailbox = wrapMailbox(fd);
  const received = waitForOne(host, mailbox, strict);
  passOn([...inherited, received]);
  const env = { ...ownEnvironment(host.env), SKBOX_RECEIVED_FD: String(received) };
  return exec({ program, argv: command, env }, startedWith(host.env.SOCKETBOX_STARTED));
}

function waitForOne(host: Host, mailbox: Mailbox, strict: ReturnType<typeof strictMode>): number {
  const flows = new Uint32Array(FLOW_WORDS);
  for (;;) {
    const count = receive(mailbox, flows, 1, strict);
    const received = flows[FLOW_FD_WORD]! | 0;
    if (count === 1 && received >= 0) return received;
    if (count === 1) {
      host.log(`dropped a message: ${DROPPED.get(-received) ?? errnoName(-received)}`);
      continue;
    }
    if (count === -ERRNO.ENODATA) throw new Failure(EXIT.peerGone, "the sender has gone");
    check(count, "receive");
    Bun.sleepSync(1);
  }
}
