"""Sends TCP segments without a socket: forge.py FROM SPORT TO DPORT FLAGS,... SEQUENCE,... FLAGS: e.g. R, RA, FA."""
import socket
import struct
import sys

source, sport, target, dport, kinds, sequences = sys.argv[1:7]
v6 = ":" in target
family = socket.AF_INET6 if v6 else socket.AF_INET
ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)


def packet(flags, sequence):
    bits = sum({"F": 1, "S": 2, "R": 4, "A": 16}[flag] for flag in flags)

    def segment(checksum):
        ports = struct.pack("!HH", int(sport), int(dport))
        return ports + struct.pack("!IIBBHHH", sequence & 0xFFFFFFFF, 1, 0x50, bits, 1000, checksum, 0)

    data = ends + struct.pack("!IHBB", 20, 0, 0, 6) + segment(0)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    if v6:
        return struct.pack("!IHBB", 6 << 28, 20, 6, 64) + ends + segment(~total & 0xFFFF)
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + ends + segment(~total & 0xFFFF)


s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
for sequence in sequences.split(","):
    for flags in kinds.split(","):
        s.sendto(packet(flags, int(sequence)), (target, 0, 0, 0) if v6 else (target, 0))
