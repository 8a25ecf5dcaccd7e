"""Both ends of many relayed connections at a time, which write, stall, finish and reset as a seed says:
`soak.py RELAY_PORT TARGET SEED COUNT`. TARGET is a port of 127.0.0.1, or a path. Prints "good", or what was wrong.

What arrives is compared byte by byte: all of it where nobody resets, and what came before where somebody does, who
must not look like one that has finished.
"""
import queue, random, select, socket, struct, sys, threading, time

RELAY, TARGET, SEED, COUNT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
IS_UNIX = not TARGET.isdigit()
BLOCK = random.Random(SEED).randbytes(1 << 20)
# What a client says first: which plan is meant.
NUMBER = struct.Struct("!Q")
STUCK_SECONDS = 15
PLANS, FAULTS = {}, []


def pattern(offset, at, size):
    """Up to so many bytes of what a side sends, which begins at `offset` of the block."""
    start = (offset + at) % len(BLOCK)
    return BLOCK[start : start + size]


class Side:
    """One end. It sends `size` bytes; `resets_at`: resets when so many have been sent and received."""

    def __init__(self, rng, name, size):
        self.rng, self.name, self.size, self.resets_at = random.Random(rng.random()), name, size, None
        self.offset = rng.randrange(len(BLOCK))
        self.piece = max(size // 500, rng.choice([17, 500, 4096, 20_000, 1 << 16, 1 << 18]))
        self.takes = rng.choice([4096, 1 << 14, 1 << 16, 1 << 18])
        self.stalls = rng.choice([0, 0, 0.01, 0.03])
        self.hears_all_first = rng.random() < 0.2
        self.sent, self.got, self.failed, self.ended = 0, 0, None, False

    def __repr__(self):
        state = f"resets at {self.resets_at}, {self.failed!r}, ended {self.ended}"
        return f"<{self.name} sent {self.sent} of {self.size}, got {self.got}, {state}>"


def plan_of(number):
    rng = random.Random(SEED * 1_000_003 + number)
    limits = [1, 2, 100, 20_000, 200_000, 5_000_000]
    up, down = rng.randrange(rng.choice(limits)), rng.randrange(rng.choice(limits))
    sides = Side(rng, "client", up), Side(rng, "target", down)
    who = rng.choice(sides)
    if who.size and rng.random() < 0.5:
        who.resets_at = rng.randrange(who.size)
    if who.resets_at is not None or sides[0].hears_all_first:
        sides[1].hears_all_first = False
    if who.resets_at is not None:
        sides[0].hears_all_first = False
    return sides


def receive(sock, side, other):
    data = sock.recv(side.takes)
    side.ended = not data
    at = 0
    while at < len(data):
        wanted = pattern(other.offset, side.got, len(data) - at)
        if data[at : at + len(wanted)] != wanted:
            raise ValueError(f"{side}: other bytes than {other} sent")
        at += len(wanted)
        side.got += len(wanted)


def drive(sock, side, other):
    """Returns when it has finished and so has the other, or one of them has reset."""
    sock.setblocking(False)
    finished, before, deadline = False, -1, 0
    while not (finished and side.ended or side.failed):
        progress = side.sent + side.got + other.sent + other.got
        if progress != before:
            before, deadline = progress, time.monotonic() + STUCK_SECONDS
        elif time.monotonic() > deadline:
            raise TimeoutError(f"stuck: {side} {other}")
        if side.resets_at is not None and side.sent + side.got >= side.resets_at:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if side.rng.random() < 0.05:
            time.sleep(side.stalls)
        try:
            if side.sent == side.size and not finished:
                sock.shutdown(socket.SHUT_WR)
                finished = True
            sends = side.sent < side.size and (side.ended or not side.hears_all_first)
            reads, writes, _ = select.select([] if side.ended else [sock], [sock] if sends else [], [], 1)
            if writes:
                left = (side.size if side.resets_at is None else side.resets_at - side.got) - side.sent
                side.sent += sock.send(pattern(side.offset, side.sent, min(side.piece, left)))
            if reads:
                receive(sock, side, other)
        except BlockingIOError:
            pass
        except OSError as error:
            side.failed = error


def judge(sides):
    resets = any(side.resets_at is not None for side in sides)
    for side, other in (sides, sides[::-1]):
        whole = side.got == other.size and side.ended and not side.failed
        # A Unix socket can neither be reset nor tell that its peer was.
        cut_off = side.got < other.size and side.ended and not side.failed and not IS_UNIX
        if cut_off if resets else not whole:
            FAULTS.append(f"{side} {other}")


def buffers(sock, rng):
    if rng.random() < 0.3:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    if rng.random() < 0.3:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)


def serve(listener):
    while True:
        sock, _ = listener.accept()
        with sock:
            try:
                sock.settimeout(STUCK_SECONDS)
                head = sock.recv(NUMBER.size, socket.MSG_WAITALL)
            except OSError:
                continue
            if len(head) < NUMBER.size:
                continue
            (client, target), done = PLANS[NUMBER.unpack(head)[0]]
            try:
                buffers(sock, target.rng)
                drive(sock, target, client)
            except Exception as error:
                FAULTS.append(repr(error))
        done.set()


def work(numbers):
    while True:
        try:
            number = numbers.get_nowait()
        except queue.Empty:
            return
        sides, done = plan_of(number), threading.Event()
        PLANS[number] = sides, done
        try:
            with socket.socket() as sock:
                buffers(sock, sides[0].rng)
                sock.connect(("127.0.0.1", RELAY))
                sock.sendall(NUMBER.pack(number))
                drive(sock, *sides)
        except Exception as error:
            FAULTS.append(repr(error))
        if done.wait(2 if sides[0].resets_at is not None else 2 * STUCK_SECONDS):
            judge(sides)
        elif sides[0].resets_at is None:  # one that resets at once may never have been heard of
            FAULTS.append(f"the target goes on: {sides}")


if IS_UNIX:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(TARGET)
    listener.listen(512)
else:
    listener = socket.create_server(("127.0.0.1", int(TARGET)), backlog=512)
for _ in range(64):
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
numbers = queue.Queue()
for number in range(COUNT):
    numbers.put(number)
workers = [threading.Thread(target=work, args=(numbers,)) for _ in range(32)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
if FAULTS:
    sys.exit(f"{len(FAULTS)} faults: {FAULTS[:5]}")
print("good")
