"""UDP under pressure, for a pod: `echo PORT`, `flood ADDRESS PORT COUNT` (prints what was sent), `ask ADDRESS PORT COUNT` (prints the median in
microseconds, how many were not answered within a second, and how many a second were)."""
import socket
import sys
import time


def main(word, *args):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if word == "echo":
        sock.bind(("", int(args[0])))
        while True:
            data, sender = sock.recvfrom(64)
            sock.sendto(data, sender)
    address, port, count = args[0], int(args[1]), int(args[2])
    sock.connect((address, port))
    if word == "flood":
        sent = 0
        while sent < count:
            try:
                sent += sock.send(b"x")
            except (BlockingIOError, ConnectionRefusedError, OSError):
                pass
        print(sent)
        return
    # One question after the other; who is not answered within a second asks again.
    sock.settimeout(1)
    times, missed, start = [], 0, time.perf_counter()
    for number in range(count):
        begin = time.perf_counter()
        sock.send(b"%d" % number)
        try:
            while sock.recv(64) != b"%d" % number:
                pass
            times.append(time.perf_counter() - begin)
        except TimeoutError:
            missed += 1
    times.sort()
    rate = len(times) / (time.perf_counter() - start)
    print(int(times[len(times) // 2] * 1e6) if times else 0, missed, int(rate))


main(*sys.argv[1:])
