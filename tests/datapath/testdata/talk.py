"""One TCP connection that does what it is told, a line each: send, recv, close (in order), abort (RST); says "sent", "closed" or what came.
    talk.py listen PORT | talk.py connect ADDRESS PORT SPORT"""
import socket
import struct
import sys

if sys.argv[1] == "listen":
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", int(sys.argv[2])))
    s.listen(8)
    print("ready", flush=True)
    c = s.accept()[0]
    s.close()
else:
    v6 = ":" in sys.argv[2]
    c = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    c.bind(("", int(sys.argv[4])))
    c.settimeout(3)
    c.connect((sys.argv[2], int(sys.argv[3])))
    print("ready", flush=True)
c.settimeout(3)
for line in sys.stdin:
    try:
        if line == "send\n":
            c.sendall(b"hello")
            print("sent", flush=True)
        elif line == "recv\n":
            print(c.recv(100).decode() or "end", flush=True)
        else:
            if line == "abort\n":
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
            print("closed", flush=True)
    except OSError as error:
        print("error", error, flush=True)
