"""Holds connections: hold.py tcp|udp ADDRESS PORT TIMES. For each line on stdin every one asks again, and must hear from peer_server.py
what that has seen of this connection alone: the same address and port as before, and all bytes so far. Prints how many were right."""
import socket
import sys

kind, host, port, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
held = []
for _ in range(times):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(2)
    try:
        s.connect((host, port))
        held.append([s, None, 0])
    except OSError:
        pass
print(len(held), flush=True)
for _ in sys.stdin:
    good = 0
    for one in held:
        s, seen, sent = one
        try:
            size = 1 + s.getsockname()[1] % 100
            s.send(b"x" * (size - 1) + b"?")
            address, peer, n = s.recv(1000).split()
        except (OSError, ValueError) as e:
            print(e, file=sys.stderr)
            continue
        one[2] = sent + size if kind == "tcp" else size
        if seen in (None, (address, peer)) and int(n) == one[2]:
            good += 1
        one[1] = (address, peer)
    print(good, flush=True)
