"""A target of one kind: `target.py KIND WHERE`, where WHERE is a port of 127.0.0.1, ADDRESS,PORT, or a Unix path.

full    its backlog is full; after SIGUSR1 it accepts, and answers "welcome" to each, and reads to the end
silent  accepts, and neither reads nor writes; says when it has accepted, and when something has come that it could read
whoami  answers each with the addresses that it sees, "CLIENT PORT" and closes
"""
import os, signal, socket, sys, threading


def hear(connection):
    try:
        if connection.recv(1, socket.MSG_PEEK):
            print("heard", flush=True)
    except ConnectionResetError:
        pass


def welcome(connection):
    try:
        connection.sendall(b"welcome")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(100):
            pass
    except OSError:
        pass
    connection.close()


kind, where = sys.argv[1], sys.argv[2]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
if where[0] in "/@":
    family, address = socket.AF_UNIX, where.replace("@", "\0", 1)
elif "," in where:
    host, port = where.split(",")
    family, *_, address = socket.getaddrinfo(host, int(port))[0]
else:
    family, address = socket.AF_INET, ("127.0.0.1", int(where))
listener = socket.socket(family)
if family != socket.AF_UNIX:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: of a prefix that is local as a whole
listener.bind(address)
listener.listen(0 if kind == "full" else 100)
kept = []
if kind == "full":
    for number in range(4):
        filler = socket.socket(family)
        filler.setblocking(number == 0)  # there is room for one, and it is there before anybody else comes
        filler.connect_ex(address)
        kept.append(filler)
print("ready", flush=True)
if kind == "full":
    signal.sigwait([signal.SIGUSR1])
while True:
    connection, peer = listener.accept()
    if kind == "full":
        threading.Thread(target=welcome, args=(connection,), daemon=True).start()
    elif kind == "whoami":
        connection.sendall(f"{peer[0]} {peer[1]}".encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        connection.close()
    else:
        kept.append(connection)
        print("accepted", flush=True)
        threading.Thread(target=hear, args=(connection,), daemon=True).start()
