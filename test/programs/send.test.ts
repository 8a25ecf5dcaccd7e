/** send-receive-fd: one descriptor through an inherited Unix socket, by hand. */
import { describe, expect } from "bun:test";
import { EXIT } from "../../src/programs/host.ts";
import { pythonOutput, said } from "../kit/python.ts";
import { program, testWith } from "../kit/require.ts";
import { bin } from "../kit/running.ts";

const testPython = testWith(program("python3"));
const SEND = bin("send-receive-fd");

/** `call(words, descriptors to pass on, environment)` runs send-receive-fd, and says its exit code and output. */
const CALL = `
import subprocess
def call(*words, fds, env={}):
    done = subprocess.run([sys.argv[1], *map(str, words)], pass_fds=[f.fileno() for f in fds],
                          capture_output=True, text=True, env={**os.environ, **env})
    return dict(code=done.returncode, out=done.stdout, log=done.stderr)
`;

const output = (script: string) =>
  pythonOutput(CALL + script, SEND).then((text) => said<Record<string, unknown>>(text));

describe("send-receive-fd -s", () => {
  testPython(
    "sends the descriptor with one byte beside it, and keeps its own copy open for nobody else",
    async () => {
      const script = `
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    client, accepted = connection()
    result = call("-s", accepted.fileno(), theirs.fileno(), fds=[accepted, theirs])
    accepted.close()
    payload, descriptors = take(ours)
    received = socket.socket(fileno=descriptors[0])
    received.sendall(b"through")
    received.close()
    say(payload=payload.hex(), descriptors=len(descriptors), answer=read_all(client), **result)`;
      expect(await output(script)).toEqual(
        Array(3).fill({ payload: "00", descriptors: 1, answer: "through", code: 0, out: "", log: "" }),
      );
    },
  );

  testPython("sends whatever the descriptor is, and waits while the receiver's queue is full", async () => {
    const script = `
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
theirs.setblocking(False)
full = 0
try:
    while True: theirs.send(b"x"); full += 1
except BlockingIOError: pass
theirs.setblocking(True)
pipe, end = os.pipe()
import time
def drain():
    time.sleep(0.3)
    for _ in range(full): ours.recv(10)
before = time.monotonic()
threading.Thread(target=drain).start()
with os.fdopen(end, "wb") as file:
    result = call("-s", end, theirs.fileno(), fds=[file, theirs])
waited = time.monotonic() - before >= 0.3
_, descriptors = take(ours)
os.write(descriptors[0], b"through"); os.close(descriptors[0])
say(waited=waited, read=os.read(pipe, 10).decode(), **result)`;
    expect(await output(script)).toEqual([{ waited: true, read: "through", code: 0, out: "", log: "" }]);
  });

  testPython("says when nobody can receive it, or there is nothing to send", async () => {
    const script = `
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
say(**call("-s", 99, theirs.fileno(), fds=[theirs]))
ours.close()
say(**call("-s", 1, theirs.fileno(), fds=[theirs]))
say(**call("-s", 1, 99, fds=[]))`;
    const [nothing, nobody, nowhere] = await output(script);
    expect(nothing).toMatchObject({ code: EXIT.system, out: "" });
    expect(nothing!.log).toContain("descriptor 99: EBADF");
    expect(nobody).toMatchObject({ code: EXIT.system });
    expect(nobody!.log).toContain("send over descriptor ");
    expect(nowhere).toMatchObject({ code: EXIT.system });
    expect(nowhere!.log).toContain("EBADF");
  });
});

describe("send-receive-fd", () => {
  testPython(
    "neither sends nor waits over what is no Unix socket, where a descriptor would be lost",
    async () => {
      const script = `
client, accepted = connection()
say(**call("-s", 1, accepted.fileno(), fds=[accepted]))
say(**call("-r", accepted.fileno(), "true", fds=[accepted]))
accepted.close()
say(sent=read_all(client))`;
      const [sending, receiving, sent] = await output(script);
      for (const said of [sending!, receiving!]) {
        expect(said).toMatchObject({ code: EXIT.system, out: "" });
        expect(said.log).toEndWith("EPROTOTYPE (another kind of socket)\n");
      }
      expect(sent).toEqual({ sent: "" });
    },
  );
});

describe("send-receive-fd -r", () => {
  /** The program that it becomes: says what it received. */
  const PROGRAM = `import os, socket
number = int(os.environ["SKBOX_RECEIVED_FD"])
received = socket.socket(fileno=number)
print(os.getppid(), os.get_blocking(number), [n for n in os.environ if n.startswith("SOCKETBOX_")], flush=True)
received.sendall(b"from the program")`;

  testPython("becomes the program, which finds the received socket by its number", async () => {
    const script = `
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
client, accepted = connection()
send(ours, accepted, payload=b"any payload"); accepted.close()
result = call("-r", theirs.fileno(), "python3", "-c", ${JSON.stringify(PROGRAM)}, fds=[theirs])
say(parent=result["out"] == f"{os.getpid()} True []\\n", answer=read_all(client), code=result["code"], log=result["log"])`;
    expect(await output(script)).toEqual([{ parent: true, answer: "from the program", code: 0, log: "" }]);
  });

  testPython("passes variables that are not UTF-8 on as they came", async () => {
    const script = `
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
client, accepted = connection()
send(ours, accepted); accepted.close()
odd = {b"ODD": b"a\\xff\\xc3="}
say(**call("-r", theirs.fileno(), "sh", "-c", 'printf %s "$ODD" | od -An -v -tx1', fds=[theirs], env=odd))`;
    expect(await output(script)).toEqual([{ code: 0, out: " 61 ff c3 3d\n", log: "" }]);
  });

  testPython("passes its words on as they are", async () => {
    const script = `
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
client, accepted = connection()
send(ours, accepted); accepted.close()
say(**call("-r", theirs.fileno(), "echo", "-h", "--", "-r", "a b", fds=[theirs]))`;
    expect(await output(script)).toEqual([{ code: 0, out: "-h -- -r a b\n", log: "" }]);
  });

  testPython(
    "drops what is no connection, says so, and takes the next that is; in mode 0 takes anything",
    async () => {
      const script = `
for mode in ("2", "0"):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client, accepted = connection()
    pipe, end = os.pipe()
    send(ours, payload=b"no descriptor in it")
    send(ours, end)
    send(ours, accepted); accepted.close()
    said = call("-r", theirs.fileno(), "sh", "-c", "readlink /proc/self/fd/$SKBOX_RECEIVED_FD", fds=[theirs], env={"SKBOX_STRICT_STREAM_MODE": mode})
    say(code=said["code"], kind=said["out"].split(":")[0], dropped=[line.split(": ", 2)[2] for line in said["log"].splitlines()])`;
      const [none, wrong] = ["there is no socket in it", "what is in it is not a connection"];
      expect(await output(script)).toEqual([
        { code: 0, kind: "socket", dropped: [none, wrong] },
        { code: 0, kind: "pipe", dropped: [none] },
      ]);
    },
  );

  testPython(
    "ends with 11 when the sender goes, and takes nothing when the program is not there",
    async () => {
      const script = `
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
ours.close()
say(**call("-r", theirs.fileno(), "echo", fds=[theirs]))
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
client, accepted = connection()
send(ours, accepted, payload=b"still here"); accepted.close()
say(**call("-r", theirs.fileno(), "no-such-program", fds=[theirs]))
say(left=take(theirs)[0].decode())`;
      const [gone, missing, left] = await output(script);
      expect(gone).toMatchObject({ code: EXIT.peerGone, out: "" });
      expect(gone!.log).toContain("the sender has gone");
      expect(missing).toMatchObject({ code: EXIT.system, out: "" });
      expect(missing!.log).toContain("find program no-such-program: ENOENT");
      expect(left).toEqual({ left: "still here" });
    },
  );
});
