"""Measures: measure.py tcp|udp|large ADDRESS PORT TIMES PAUSE_MS. Each time a new connection: connect, one question, one answer, close
("large": UDP of 3000 bytes, in fragments). Prints how many came out right, and median and 99th percentile in us. Who waits longer
than a second has failed: a dropped SYN comes again after that."""
import socket
import sys
import time

kind, host, port, times, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
good, took = 0, []
for _ in range(times):
    began = time.monotonic()
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(0.9)
    try:
        s.connect((host, port))
        s.send(b"x" * (3000 if kind == "large" else 20) + b"?")
        if s.recv(1000):
            took.append(time.monotonic() - began)
            good += 1
    except OSError:
        pass
    s.close()
    time.sleep(pause / 1000)
took.sort()
at = lambda q: int(took[min(len(took) - 1, int(len(took) * q))] * 1e6) if took else 0
print(good, at(0.5), at(0.99))
