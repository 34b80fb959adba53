"""Asks a service and prints JSON: who answered how often, whom they saw, what failed. Arguments:
  ask.py tcp|udp ADDRESS PORT COUNT PATIENCE   COUNT fresh connections or datagrams, each answer within PATIENCE seconds
  ask.py tcp|connected-udp ADDRESS PORT 0 PATIENCE FILE   on and on while FILE is there, with what was seen so far in FILE.state;
                                                          connected-udp asks by one connected socket
  ask.py bulk ADDRESS PORT COUNT PATIENCE   COUNT connections that carry two megabytes each way
  ask.py peer ADDRESS PORT 1 PATIENCE   what the connected socket says that its peer is"""
import errno
import json
import os
import random
import socket
import struct
import sys
import threading
import time

how, address, port, count, patience = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:6])
port = int(port)
going = sys.argv[6] if len(sys.argv) > 6 else None
# Who removes the file may be killed before.
GOING_MAX = 900
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
    s.settimeout(patience)
    return s


def connect():
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(patience)
    try:
        # (A name is looked up first.)
        s.connect(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4])
    except OSError as error:
        # tcpi_total_retrans
        (again,) = struct.unpack_from("I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)
        s.close()
        raise OSError("%s, %d sent again" % (error, again)) from None
    return s


def once(connected=None):
    if how == "bulk":
        with connect() as s:
            reader = s.makefile("rb")
            note(reader.readline().decode())
            whole = bytes(random.randbytes(2 << 20))
            sender = threading.Thread(target=s.sendall, args=(whole,))
            sender.start()
            if reader.read(len(whole)) != whole:
                raise OSError("what came back is not what was sent")
            sender.join()
    elif how == "tcp" or how == "peer":
        with connect() as s:
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


def seen():
    return {"by": by, "clients": clients, "failed": failed, "order": order, "asked": asked,
            "seconds": time.monotonic() - started}


def tell():
    with open(going + ".new", "w") as file:
        json.dump(seen(), file)
    os.rename(going + ".new", going + ".state")


socket_of_all = None
if how == "connected-udp":
    socket_of_all = datagram()
    socket_of_all.connect((address, port))
started = told = time.monotonic()
asked = 0
while asked < count if going is None else os.path.exists(going) and time.monotonic() < started + GOING_MAX:
    asked += 1
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
    if going is not None and time.monotonic() > told + 0.1:
        told = time.monotonic()
        tell()
print(json.dumps(seen()))
