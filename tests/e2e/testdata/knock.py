"""Knocks at a port: what came of it is told by others. Arguments:
  knock.py ADDRESS tcp|udp no [PORT]   until somebody says no: who is asked, or a router on the way
  knock.py ADDRESS tcp COUNT SECONDS [PORT]   COUNT connections at once, each anew while it is refused, open for SECONDS
  knock.py ADDRESS udp COUNT SECONDS [PORT]   until COUNT datagrams in a row were not refused within SECONDS each
  knock.py ADDRESS talk DIRECTORY PORT   connects, makes DIRECTORY/open, sends when DIRECTORY/send is there, and stays while it is
  knock.py ADDRESS spoof SOURCE   a datagram with another's source address"""
import os
import select
import socket
import struct
import sys
import time

# However slow the machine is: what takes longer does not come.
DEADLINE = time.monotonic() + 120


def late():
    if time.monotonic() > DEADLINE:
        sys.exit("knocked in vain for two minutes")


def connecting():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((address, port))
    return s


def said_no(s, seconds):
    """Whether an error came. A connection that is made is none."""
    select.select([s] if how == "udp" else [], [s] if how == "tcp" else [], [], seconds)
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def wait_for(path, there):
    while os.path.exists(path) != there:
        late()
        time.sleep(0.05)


address, how = sys.argv[1:3]
if how == "spoof":
    payload = struct.pack("!HHHH", 4000, 8080, 8, 0)
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton(sys.argv[3]), socket.inet_aton(address)
    )
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    s.sendto(header + payload, (address, 0))
    sys.exit(0)
if how == "talk":
    directory, port = sys.argv[3], int(sys.argv[4])
    while True:
        try:
            s = socket.create_connection((address, port), timeout=30)
            break
        except OSError:
            # It does not listen yet.
            late()
            time.sleep(0.1)
    with s:
        open(directory + "/open", "w").close()
        wait_for(directory + "/send", True)
        s.sendall(b"?")
        wait_for(directory + "/send", False)
    sys.exit(0)
is_no = sys.argv[3] == "no"
rest = sys.argv[4 if is_no else 5:]
port = int(rest[0]) if rest else 8080
count, seconds = (1, 0.5) if is_no else (int(sys.argv[3]), float(sys.argv[4]))
if how == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, port))
    unrefused = 0
    while is_no or unrefused < count:
        late()
        try:
            s.send(b"?")
        except ConnectionError:
            # Of the one before.
            unrefused = -1
        refused = said_no(s, seconds) or unrefused < 0
        if refused and is_no:
            break
        unrefused = 0 if refused else unrefused + 1
elif is_no:
    s = connecting()
    while not said_no(s, seconds):
        late()
        time.sleep(0.05)
else:
    sockets = [connecting() for _ in range(count)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for i, s in enumerate(sockets):
            if said_no(s, 0):
                late()
                sockets[i] = connecting()
                until = time.monotonic() + seconds
        time.sleep(0.1)
