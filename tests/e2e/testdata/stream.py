"""A TCP stream that never ends by itself: sends a counter every 50 ms, prints each echo as it comes. Arguments: address port."""
import socket
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
        print("silent", flush=True)
        continue
    if not answer:
        print("closed", flush=True)
        break
    print(n, flush=True)
    time.sleep(0.05)
