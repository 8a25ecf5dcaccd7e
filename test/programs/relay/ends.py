"""Both ends of relayed connections: `ends.py CASE RELAY_PORT TARGET_PORT [COUNT|PATH]…`. Prints "good", or what was wrong.

The target listens on 127.0.0.1; the client connects to the relay there. Everything is compared byte by byte.
"""
import hashlib, os, random, select, signal, socket, struct, sys, threading, time

CASE, RELAY, TARGET = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
MORE = sys.argv[4:]
COUNT = int(MORE[0]) if MORE and MORE[0].isdigit() else 1
NOW = struct.pack("ii", 1, 0)


def listen(path=None):
    if path is None:
        listener = socket.create_server(("127.0.0.1", TARGET), backlog=1024)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path), listener.listen(1024)
    listener.settimeout(60)
    return listener


def dial():
    client = socket.create_connection(("127.0.0.1", RELAY), 60)
    client.settimeout(60)
    return client


def accept(listener):
    target, _ = listener.accept()
    target.settimeout(60)
    return target


def read_all(sock):
    digest, size = hashlib.sha256(), 0
    while True:
        data = sock.recv(1 << 18)
        if not data:
            return digest.hexdigest(), size
        digest.update(data)
        size += len(data)


def send_random(sock, size, seed):
    """Random bytes in pieces of random size; returns what read_all returns of them."""
    rng, digest, left = random.Random(seed), hashlib.sha256(), size
    block = rng.randbytes(1 << 18)
    while left:
        piece = block[: min(left, rng.choice([1, 17, 1000, 4096, 65536, 1 << 18]))]
        sock.sendall(piece)
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest(), size


def expect(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}: got {got}, expected {wanted}")


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)
    sock.close()


def expect_reset(sock, what):
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionResetError:
        return
    sys.exit(f"{what}: an end, and not a reset")


class Sending(threading.Thread):
    """Sends in the background, then closes its half."""

    def __init__(self, sock, size, seed):
        super().__init__()
        self.sock, self.size, self.seed, self.sent = sock, size, seed, None
        self.start()

    def run(self):
        self.sent = send_random(self.sock, self.size, self.seed)
        self.sock.shutdown(socket.SHUT_WR)

    def result(self):
        self.join()
        return self.sent


def client_ends_first(listener, size, seed):
    client = dial()
    target = accept(listener)
    sending = Sending(client, size, seed)
    got = read_all(target)
    expect(got, sending.result(), "up")
    answering = Sending(target, size // 2, seed + 1)
    got = read_all(client)
    expect(got, answering.result(), "down")
    client.close(), target.close()


def target_ends_first(listener, size, seed):
    client = dial()
    target = accept(listener)
    sending = Sending(target, size, seed)
    got = read_all(client)
    expect(got, sending.result(), "down")
    answering = Sending(client, size // 2, seed + 1)
    got = read_all(target)
    expect(got, answering.result(), "up")
    client.close(), target.close()


def both_at_once(listener, size, seed):
    client = dial()
    target = accept(listener)
    up, down = Sending(client, size, seed), Sending(target, size, seed + 1)
    results = {}
    reading = threading.Thread(target=lambda: results.update(up=read_all(target)))
    reading.start()
    results["down"] = read_all(client)
    reading.join()
    expect(results["up"], up.result(), "up")
    expect(results["down"], down.result(), "down")
    client.close(), target.close()


def nothing_sent(listener, size, seed):
    client = dial()
    target = accept(listener)
    client.shutdown(socket.SHUT_WR)
    expect(read_all(target)[1], 0, "up")
    target.close()
    expect(read_all(client)[1], 0, "down")
    client.close()


KINDS = [client_ends_first, target_ends_first, both_at_once, nothing_sent]


def large():
    """COUNT megabytes in each of the kinds."""
    with listen() as listener:
        for seed, kind in enumerate(KINDS):
            kind(listener, COUNT * 1_000_000, seed)


def short():
    """COUNT connections in all, each of a few bytes up to some pages, many at a time."""
    lock, left, faults = threading.Lock(), [COUNT], []
    listener = listen()

    # A target tells by the first byte what it is to do, so that pairs need not find each other.
    def serve():
        while True:
            try:
                target = accept(listener)
            except OSError:
                return
            try:
                kind = target.recv(1)
                if kind == b"a":  # reads to the end, sends the same back
                    data = b""
                    while piece := target.recv(1 << 16):
                        data += piece
                    target.sendall(data)
                elif kind == b"b":  # sends first and ends its half, then reads what must be the same
                    data = os.urandom(random.randrange(20000))
                    target.sendall(struct.pack("!I", len(data)) + data)
                    target.shutdown(socket.SHUT_WR)
                    back = b""
                    while piece := target.recv(1 << 16):
                        back += piece
                    if back != data:
                        faults.append("b")
                else:  # echoes as it comes
                    while piece := target.recv(1 << 16):
                        target.sendall(piece)
            except OSError as error:
                faults.append(repr(error))
            target.close()

    def one(rng):
        kind = rng.choice("abc")
        client = dial()
        client.sendall(kind.encode())
        data = rng.randbytes(rng.randrange(20000))
        if kind == "a" or kind == "c":
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            back = b""
            while piece := client.recv(1 << 16):
                back += piece
            if back != data:
                faults.append(kind)
        else:
            back = b""
            while piece := client.recv(1 << 16):
                back += piece
            if struct.unpack("!I", back[:4])[0] != len(back) - 4:
                faults.append("length")
            client.sendall(back[4:])
            client.shutdown(socket.SHUT_WR)
            client.recv(1)
        client.close()

    def work(seed):
        rng = random.Random(seed)
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
            try:
                one(rng)
            except OSError as error:
                faults.append(repr(error))

    for _ in range(16):
        threading.Thread(target=serve, daemon=True).start()
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if faults:
        sys.exit(f"{len(faults)} faults: {faults[:5]}")


def client_resets():
    with listen() as listener:
        client = dial()
        target = accept(listener)
        client.sendall(b"half a request")
        expect(target.recv(100), b"half a request", "up")
        reset(client)
        expect_reset(target, "target")


def target_resets():
    with listen() as listener:
        client = dial()
        target = accept(listener)
        target.sendall(b"half an answer")
        expect(client.recv(100), b"half an answer", "down")
        reset(target)
        expect_reset(client, "client")


def target_answers_and_resets():
    """COUNT times, at once: it may have reset before the relay knows that it is connected. PATH: it listens there."""
    with listen(*MORE[1:]) as listener:

        def answer():
            for _ in range(COUNT):
                target = accept(listener)
                target.sendall(b"busy")
                reset(target)

        threading.Thread(target=answer, daemon=True).start()
        for _ in range(COUNT):
            # Not waited for: connect(2) would tell of the reset, where that has come already, and not of the answer.
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", RELAY))
            select.select([client], [], [], 60)
            client.setblocking(True)
            expect(client.recv(100), b"busy", "down")
            expect_reset(client, "client")
            client.close()


def full_target_resets():
    """It has read nothing, so that the relay finds out by writing."""
    with listen() as listener:
        client = dial()
        target = accept(listener)
        target.sendall(b"half an answer")
        expect(client.recv(100), b"half an answer", "down")
        client.setblocking(False)
        for _ in range(10):
            try:
                while True:
                    client.send(bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.02)
        client.settimeout(60)
        reset(target)
        expect_reset(client, "client")


def target_refuses_more():
    """It answers and closes without reading all: the answer arrives, and then a reset."""
    with listen() as listener:
        client = dial()
        target = accept(listener)
        client.sendall(b"x" * 100_000)
        expect(len(target.recv(1)), 1, "up")
        target.sendall(b"too large")
        expect(client.recv(100), b"too large", "down")
        target.close()
        expect_reset(client, "client")


def urgent():
    """An urgent byte stays urgent, in its place (tcp(7), SIOCATMARK)."""
    import fcntl, select, termios
    with listen() as listener:
        client = dial()
        target = accept(listener)
        client.sendall(b"before")
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"after")
        client.shutdown(socket.SHUT_WR)
        poll = select.poll()
        poll.register(target, select.POLLPRI)
        if not poll.poll(60_000):
            sys.exit("no urgent data came")
        expect(target.recv(1, socket.MSG_OOB), b"!", "urgent")
        expect(target.recv(100), b"before", "before the mark")
        mark = fcntl.ioctl(target, 0x8905, struct.pack("i", 0))
        expect(struct.unpack("i", mark)[0], 1, "at the mark")
        rest = b""
        while piece := target.recv(100):
            rest += piece
        expect(rest, b"after", "behind the mark")


def urgent_and_more():
    """What comes in one piece with an urgent byte goes on with it, though nothing comes after."""
    with listen() as listener:
        client = dial()
        target = accept(listener)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.sendall(b"before")
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"and after")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        target.settimeout(60)
        got = b""
        while len(got) < len("beforeand after"):
            got += target.recv(100)
        expect(got, b"beforeand after", "up")


def urgent_often():
    """COUNT times: what comes around urgent bytes is whole, however it comes, and so are they (SO_OOBINLINE)."""

    def small(client):
        for round in range(5):
            client.sendall(b"ab")
            client.send(b"!", socket.MSG_OOB)
            client.sendall(b"cd")
            time.sleep(0.0003 * (round % 2))
        return b"ab!cd" * 5

    def large(client):
        data = os.urandom(200_000)
        client.sendall(data)
        client.send(b"!", socket.MSG_OOB)
        client.sendall(data)
        return data + b"!" + data

    def last(client):
        client.send(b"!", socket.MSG_OOB)
        return b"!"

    with listen(*MORE[1:]) as listener:
        for _ in range(COUNT):
            for way in (small, large, last):
                client = dial()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                target = accept(listener)
                if target.family == socket.AF_INET:
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
                sent = way(client)
                client.shutdown(socket.SHUT_WR)
                got = b""
                while piece := target.recv(1 << 16):
                    got += piece
                if got != sent:
                    sys.exit(f"{way.__name__}: {len(got)} bytes of {len(sent)}")
                client.close(), target.close()


def answer(listener):
    """The target of whoever says hello: has heard all when they have finished, and answers then."""
    target = accept(listener)
    expect(target.recv(100), b"hello", "up")
    expect(target.recv(100), b"", "the end")
    target.sendall(b"welcome")
    target.close()


def kept():
    """Connections handed to the relay's mailbox by one who keeps them, too: they end and are reset all the same."""
    import array
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.connect(MORE[0])
    with listen() as listener, socket.create_server(("127.0.0.1", 0)) as front:

        def hand_over():
            client = socket.create_connection(front.getsockname())
            client.settimeout(60)
            ours, _ = front.accept()
            box.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ours.fileno()]))])
            return client, ours

        client, ours = hand_over()
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        answer(listener)
        expect(client.recv(100), b"welcome", "down")
        expect(client.recv(100), b"", "the end")
        client, ours_too = hand_over()
        target = accept(listener)
        target.sendall(b"half an answer")
        expect(client.recv(100), b"half an answer", "down")
        reset(target)
        expect_reset(client, "client")
        ours.close(), ours_too.close()


def unix_client_closes():
    """It has sent all and is gone before the target is reached."""
    filler = []
    with socket.create_server(("127.0.0.1", TARGET), backlog=0) as listener:
        listener.settimeout(60)
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", TARGET))
            filler.append(one)
        time.sleep(0.1)
        client = socket.socket(socket.AF_UNIX)
        client.connect(MORE[0])
        client.sendall(b"hello")
        client.close()
        time.sleep(0.1)
        for one in filler:
            one.close()
        while True:
            target = accept(listener)
            if data := target.recv(100):
                expect(data, b"hello", "up")
                expect(target.recv(100), b"", "the end")
                return


def stuck():
    """COUNT connections whose target reads nothing until SIGUSR1; prints "stuck" when nothing moves any more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with listen() as listener:
        pairs = []
        for seed in range(COUNT):
            client = dial()
            target = accept(listener)
            client.setblocking(False)
            pairs.append((client, target))
        # What the kernels and the relay hold for each: filled until no more is taken for a while.
        totals = [0] * COUNT
        still, piece = 0, os.urandom(1 << 16)
        while still < 5:
            moved = False
            for index, (client, _) in enumerate(pairs):
                try:
                    while True:
                        totals[index] += client.send(piece)
                        moved = True
                except BlockingIOError:
                    pass
            still = 0 if moved else still + 1
            time.sleep(0.1)
        print("stuck", flush=True)
        signal.sigwait([signal.SIGUSR1])
        for index, (client, target) in enumerate(pairs):
            client.settimeout(60)
            client.shutdown(socket.SHUT_WR)
            expect(read_all(target)[1], totals[index], "up")
            target.close()
            expect(read_all(client)[1], 0, "down")


def slow():
    """COUNT connections that carry a byte now and then, both ways; prints "slow" after many, goes on until SIGUSR1."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with listen() as listener:
        pairs = []
        for _ in range(COUNT):
            client = dial()
            pairs.append((client, accept(listener)))

        def trickle():
            for client, target in pairs:
                for one, other in ((client, target), (target, client)):
                    one.sendall(b"x")
                    expect(other.recv(10), b"x", "a byte")

        for _ in range(100):
            trickle()
        print("slow", flush=True)
        while not signal.sigtimedwait([signal.SIGUSR1], 0.01):
            trickle()
        for client, target in pairs:
            client.shutdown(socket.SHUT_WR)
            expect(target.recv(10), b"", "the end")
            client.close(), target.close()


def ping():
    """COUNT messages of one byte there and back."""
    with listen() as listener:
        client = dial()
        target = accept(listener)
        for _ in range(COUNT):
            client.sendall(b"x")
            expect(target.recv(10), b"x", "up")
            target.sendall(b"y")
            expect(client.recv(10), b"y", "down")


def crowded():
    """COUNT small messages, each also over a connection of its own, beside a connection that is never still; ends when
    the relay ends that one."""
    def send(client):
        try:
            while True:
                client.sendall(bytes(1 << 18))
        except ConnectionError:
            pass

    def receive(target):
        try:
            while target.recv(1 << 18):
                pass
        except ConnectionError:
            pass

    def answered(client, target):
        client.sendall(b"x")
        expect(target.recv(10), b"x", "up")
        target.sendall(b"y")
        expect(client.recv(10), b"y", "down")

    with listen() as listener:
        old, old_target = dial(), accept(listener)
        threads = [
            threading.Thread(target=send, args=(dial(),)),
            threading.Thread(target=receive, args=(accept(listener),)),
        ]
        for thread in threads:
            thread.start()
        for _ in range(COUNT):
            answered(old, old_target)
            with dial() as client, accept(listener) as target:
                answered(client, target)
        old.close(), old_target.close()
        print("answered", flush=True)
        for thread in threads:
            thread.join()


{
    "large": large,
    "short": short,
    "client-resets": client_resets,
    "target-resets": target_resets,
    "target-answers-and-resets": target_answers_and_resets,
    "full-target-resets": full_target_resets,
    "target-refuses-more": target_refuses_more,
    "urgent": urgent,
    "urgent-and-more": urgent_and_more,
    "urgent-often": urgent_often,
    "kept": kept,
    "unix-client-closes": unix_client_closes,
    "stuck": stuck,
    "slow": slow,
    "ping": ping,
    "crowded": crowded,
}[CASE]()
print("good")
