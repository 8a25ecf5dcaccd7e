"""`listen.py ADDRESS PORT COMMAND…`: becomes the command, with a listening socket as its descriptor 0."""
import os, socket, sys

address, port = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if ":" in address:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: of a prefix that is local as a whole
listener.bind((address, port))
listener.listen(1024)
os.dup2(listener.fileno(), 0, inheritable=True)
os.execvp(sys.argv[3], sys.argv[3:])
