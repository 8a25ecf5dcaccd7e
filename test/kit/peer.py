"""Clients, senders and receivers of tests: independent of what they test."""

import array
import fcntl
import json
import os
import selectors
import socket
import struct
import sys
import threading

IPV6_FREEBIND = 78
IPV6_TRANSPARENT = 75


def unix_address(path):
    """@name is the abstract namespace."""
    return "\0" + path[1:] if path.startswith("@") else path


def say(**what):
    """One line of JSON, which the test reads."""
    print(json.dumps(what), flush=True)


def listener(address="127.0.0.1", backlog=4096):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family)
    made.bind((address, 0))
    made.listen(backlog)
    return made


def connection(address="127.0.0.1"):
    """(client, accepted): both ends of a TCP connection."""
    with listener(address) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        accepted, _ = listening.accept()
    return client, accepted


def way_to(path, kind=socket.SOCK_DGRAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.connect(unix_address(path))
    return made


def send(way, *descriptors, payload=b"\0"):
    numbers = [d if isinstance(d, int) else d.fileno() for d in descriptors]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))] if numbers else []
    way.sendmsg([payload], rights)


def hand(path, *descriptors, payload=b"\0"):
    """The datagram hand-off to the receiver at path."""
    with way_to(path) as way:
        send(way, *descriptors, payload=payload)


def read_all(client):
    """Until the end of file; a reset counts as one."""
    text = b""
    try:
        while data := client.recv(65536):
            text += data
    except ConnectionResetError:
        text += b"<reset>"
    return text.decode()


def ask(client, text=""):
    client.sendall(text.encode())
    client.shutdown(socket.SHUT_WR)
    return read_all(client)


def ask_through(path, text="", address="127.0.0.1"):
    """Hands one end of a new connection to the receiver at path, and asks it over the other."""
    client, accepted = connection(address)
    with client:
        hand(path, accepted)
        accepted.close()
        return ask(client, text)


def receiver(path, kind=socket.SOCK_DGRAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(unix_address(path))
    if kind != socket.SOCK_DGRAM:
        made.listen()
    return made


def take(way):
    """The next message: (payload, descriptors)."""
    payload, descriptors, _, _ = socket.recv_fds(way, 4096, 16)
    return payload, descriptors


def option(sock, level, name):
    try:
        return sock.getsockopt(level, name)
    except OSError as error:
        return error.errno


def facts(descriptor):
    """What can be seen of a received socket."""
    sock = socket.socket(fileno=descriptor)
    return sock, {
        "local": list(sock.getsockname()[:2]),
        "remote": list(sock.getpeername()[:2]),
        "nonblocking": bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK),
        "transparent": option(sock, socket.IPPROTO_IPV6, IPV6_TRANSPARENT),
        "freebind": option(sock, socket.IPPROTO_IPV6, IPV6_FREEBIND),
        "reuse_address": option(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR),
        "reuse_port": option(sock, socket.SOL_SOCKET, socket.SO_REUSEPORT),
    }


def serve(path, name="receiver", count=None):
    """Receives connections at path; each is described on our output, answered with our name, and closed."""
    with receiver(path) as way:
        say(ready=path)
        while count is None or count > 0:
            payload, descriptors = take(way)
            sock, seen = facts(descriptors[0])
            with sock:
                say(payload=payload.hex(), descriptors=len(descriptors), **seen)
                sock.sendall(name.encode())
            count = count and count - 1
