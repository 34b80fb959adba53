"""Sends to an echo server, takes the answers, and says what was sent: ADDRESS PORT tcp|udp TIMES BYTES, prints JSON."""
import json
import socket
import sys

address, port, how, times, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
s.settimeout(120 if how == "tcp" else 2)
s.connect((address, port))
sent = received = 0
for i in range(times):
    if how == "tcp":
        s.sendall(bytes(size))
        left = size
        while left:
            left -= len(s.recv(left))
        sent, received = sent + size, received + size
        continue
    while True:
        sent += s.send(bytes(size))
        try:
            received += len(s.recv(size))
            break
        except TimeoutError:
            pass
own = s.getsockname()[1]
if how == "tcp":
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
print(json.dumps({"port": own, "sent": sent, "received": received}))
