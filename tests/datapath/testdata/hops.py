"""Sends a UDP datagram that may make so many hops, and prints which ICMP error came, and from whom: "type code address".
    hops.py ADDRESS PORT HOPS"""
import socket
import struct
import sys
import time

host, port, hops = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
v6 = ":" in host
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
if v6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    s.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    s.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
s.connect((host, port))
s.send(b"hops")
for _ in range(20):
    time.sleep(0.05)
    try:
        control = s.recvmsg(100, 512, socket.MSG_ERRQUEUE)[1]
    except BlockingIOError:
        continue
    # struct sock_extended_err: errno, origin, type, code, pad, info, data; then the offender's address
    _, _, kind, code = struct.unpack_from("=IBBB", control[0][2])
    offender = control[0][2][16:]
    address = socket.inet_ntop(socket.AF_INET6, offender[8:24]) if v6 else socket.inet_ntoa(offender[4:8])
    print(kind, code, address)
    break
else:
    print("nothing")
