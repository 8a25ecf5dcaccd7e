import { expect } from "bun:test";
import { python } from "../kit/python.ts";
import { program, testWith } from "../kit/require.ts";
import { bin } from "../kit/running.ts";

testWith(program("python3"))(
  "send-receive-fd drops what is no connection, and takes the next that is",
  async () => {
    const code = `
import array, socket, subprocess, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours.send(b"no socket in it")
datagram = socket.socket(type=socket.SOCK_DGRAM)
socket.send_fds(ours, [b"x"], [datagram.fileno()])
kept, given = socket.socketpair()
socket.send_fds(ours, [b"x"], [given.fileno()])
given.close()
script = 'eval "echo for you >&$SKBOX_RECEIVED_FD"'
command = [sys.argv[1], "-r", str(theirs.fileno()), "sh", "-c", script]
result = subprocess.run(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
print(result.returncode, result.stderr.count("dropped a message"), kept.recv(99).decode().strip())
`;
    await using running = python(code, [bin("send-receive-fd")]);
    await running.ended();
    expect(running.log).toBe("0 2 for you\n");
  },
);
