"""Knocks at a port and waits, whatever comes of it. Arguments:
  knock.py ADDRESS tcp|udp COUNT SECONDS [PORT]   COUNT connections at once (datagrams), kept open for SECONDS
  knock.py ADDRESS talk SECONDS PORT   connects, sends after SECONDS, and stays
  knock.py ADDRESS spoof SOURCE   a datagram with another's source address"""
import socket
import struct
import sys
import time

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
    with socket.create_connection((address, int(sys.argv[4])), timeout=5) as s:
        time.sleep(float(sys.argv[3]))
        s.sendall(b"?")
        time.sleep(15)
    sys.exit(0)
count, seconds = int(sys.argv[3]), float(sys.argv[4])
port = int(sys.argv[5]) if len(sys.argv) > 5 else 8080
sockets = []
for _ in range(count):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    s.connect_ex((address, port))
    if how == "udp":
        s.send(b"?")
    sockets.append(s)
time.sleep(max(0.1, seconds))
