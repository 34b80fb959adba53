"""Sends one UDP datagram in fragments, in the order said, and prints what was answered; exit code 1 when nothing came.
    fragments.py FROM TO SPORT DPORT BYTES ORDER [options]
ORDER: forward, reverse, shuffle. options: IPv6 destination options between the fragment header and UDP, and later fragments
that name another next header than the first (RFC 8200, 4.5)."""
import random
import socket
import struct
import sys

source, target, sport, dport, size, order = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6]
options = "options" in sys.argv[7:]
v6 = ":" in target
family = socket.AF_INET6 if v6 else socket.AF_INET
ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


udp = struct.pack("!HHHH", sport, dport, 8 + size, 0) + b"y" * size
total = checksum(ends + struct.pack("!IHBB", len(udp), 0, 0, 17) + udp)
udp = udp[:6] + struct.pack("!H", total) + udp[8:]
whole = bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp if options else udp
identity = random.SystemRandom().getrandbits(16)


def piece(at):
    data = whole[at : at + 1200]
    more = at + len(data) < len(whole)
    if not v6:
        field = at // 8 | (0x2000 if more else 0)
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), identity, field, 64, 17, 0) + ends + data
    following = 17 if at or not options else 60
    header = struct.pack("!BBHI", following, 0, at | more, identity)
    return struct.pack("!IHBB", 6 << 28, 8 + len(data), 44, 64) + ends + header + data


pieces = [piece(at) for at in range(0, len(whole), 1200)]
if order == "reverse":
    pieces.reverse()
elif order == "shuffle":
    random.Random(1).shuffle(pieces)
answers = socket.socket(family, socket.SOCK_DGRAM)
answers.bind(("", sport))
answers.settimeout(2)
raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
for one in pieces:
    raw.sendto(one, (target, 0, 0, 0) if v6 else (target, 0))
try:
    data, peer = answers.recvfrom(1000)
    print(data.decode().strip(), peer[0])
except OSError as error:
    print("nothing:", error)
    sys.exit(1)
