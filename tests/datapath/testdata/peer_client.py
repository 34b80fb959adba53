"""Asks a server once or more: seconds to wait, tcp|udp address port bytes [source port [times]]. Prints what it answered, a line each time;
exit code 1 when nothing came."""
import socket
import sys

patience, kind, host = float(sys.argv[1]), sys.argv[2], sys.argv[3]
port, size = int(sys.argv[4]), int(sys.argv[5])
source = int(sys.argv[6]) if len(sys.argv) > 6 else 0
times = int(sys.argv[7]) if len(sys.argv) > 7 else 1
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.settimeout(patience)
if source:
    s.bind(("", source))
data = b"x" * (size - 1) + b"?"
try:
    # A connected UDP socket hears of errors too, and takes no answer from anybody else.
    s.connect((host, port))
    if kind == "tcp":
        for _ in range(times):
            s.sendall(data)
            print(s.recv(1000).decode().strip(), flush=True)
    else:
        for _ in range(times):
            s.send(data)
            print(s.recv(65535).decode(), flush=True)
except OSError as error:
    print("error", error.errno, error)
    sys.exit(1)
