"""A TCP stream that never ends by itself: sends a counter every 50 ms, prints each echo as it comes, "silent" after two
seconds in which what was sent was not even acknowledged: who has only no time to answer is "slow". Arguments: address port.
"""
import socket
import struct
import sys
import time

s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
s.settimeout(2)
n = 0
while True:
    n += 1
    s.sendall(b"%d\n" % n)
    try:
        answer = s.recv(4096)
    except socket.timeout:
        # tcpi_unacked: the other end's kernel acknowledges what comes, whether its process has time or not.
        (unacked,) = struct.unpack_from("I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)
        print("silent" if unacked else "slow", flush=True)
        continue
    if not answer:
        print("closed", flush=True)
        break
    print(n, flush=True)
    time.sleep(0.05)
