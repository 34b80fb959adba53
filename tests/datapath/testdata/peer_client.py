"""Asks a server once or more: tcp|udp address port bytes [source port [times]]. Prints what it answered, a line each time;
exit code 1 when nothing came or from somebody else."""
import socket
import sys

kind, host, port, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
source = int(sys.argv[5]) if len(sys.argv) > 5 else 0
times = int(sys.argv[6]) if len(sys.argv) > 6 else 1
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.settimeout(3)
if source:
    s.bind(("", source))
data = b"x" * (size - 1) + b"?"
try:
    if kind == "tcp":
        s.connect((host, port))
        for _ in range(times):
            s.sendall(data)
            print(s.recv(1000).decode().strip(), flush=True)
    else:
        for _ in range(times):
            s.sendto(data, (host, port))
            answer, peer = s.recvfrom(65535)
            if peer[:2] != (host, port):
                print("from", peer)
                sys.exit(1)
            print(answer.decode(), flush=True)
except OSError as error:
    print("error", error.errno, error)
    sys.exit(1)
