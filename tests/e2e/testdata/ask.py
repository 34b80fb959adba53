"""Asks a service and prints JSON: who answered how often, whom they saw, what failed. Arguments:
  ask.py tcp|udp ADDRESS PORT COUNT [SECONDS]   COUNT fresh connections (or, with SECONDS, as many as fit into them)
  ask.py connected-udp ADDRESS PORT COUNT SECONDS   one connected socket asks on and on
  ask.py bulk ADDRESS PORT COUNT   COUNT connections that carry two megabytes each way
  ask.py peer ADDRESS PORT 1   what the connected socket says that its peer is"""
import errno
import json
import random
import socket
import sys
import threading
import time

how, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
until = time.monotonic() + float(sys.argv[5]) if len(sys.argv) > 5 else None
by, clients, failed, order = {}, {}, [], []


def note(line):
    name, client = line.split()
    by[name] = by.get(name, 0) + 1
    clients[client] = clients.get(client, 0) + 1
    if not order or order[-1] != name:
        order.append(name)


def datagram():
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(1)
    return s


def once(connected=None):
    if how == "bulk":
        with socket.create_connection((address, port), timeout=5) as s:
            reader = s.makefile("rb")
            note(reader.readline().decode())
            whole = bytes(random.randbytes(2 << 20))
            sender = threading.Thread(target=s.sendall, args=(whole,))
            sender.start()
            if reader.read(len(whole)) != whole:
                raise OSError("what came back is not what was sent")
            sender.join()
    elif how == "tcp" or how == "peer":
        with socket.create_connection((address, port), timeout=3) as s:
            note(s.makefile().readline())
            if how == "peer":
                by["peer"] = "%s %d" % s.getpeername()[:2]
            s.sendall(b"bye\n")
            if s.recv(64) != b"bye\n":
                raise OSError("the echo is not what was sent")
    elif connected:
        connected.send(b"who\n")
        note(connected.recv(64).decode())
    else:
        with datagram() as s:
            s.sendto(b"who\n", (address, port))
            data, peer = s.recvfrom(64)
            note(data.decode())
            if peer[0] != address or peer[1] != port:
                raise OSError("the answer came from %s %d" % peer[:2])


socket_of_all = None
if how == "connected-udp":
    socket_of_all = datagram()
    socket_of_all.connect((address, port))
started = time.monotonic()
i = 0
while i < count if until is None else time.monotonic() < until:
    i += 1
    try:
        once(socket_of_all)
    except (OSError, ValueError) as error:
        failed.append("%.2f s: %s" % (time.monotonic() - started, error or type(error).__name__))
        if how == "connected-udp":
            # A socket whose peer is gone is ended on a node; a client connects anew.
            if getattr(error, "errno", None) in (errno.ECONNABORTED, errno.EDESTADDRREQ):
                socket_of_all = datagram()
                socket_of_all.connect((address, port))
            time.sleep(0.05)
    if how == "connected-udp":
        time.sleep(0.02)
print(json.dumps({"by": by, "clients": clients, "failed": failed, "order": order, "asked": i,
                  "seconds": time.monotonic() - started}))
