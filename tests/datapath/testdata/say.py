"""Sends a datagram from an address and port to another, a group's or everybody's too, with SO_MARK if asked for, and prints the answer,
whoever gives it; exit code 1 when none came."""
import socket
import sys

patience, source, source_port, host, port, mark = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(mark))
s.settimeout(float(patience))
s.bind((source, int(source_port)))
s.sendto(b"x?", socket.getaddrinfo(host, int(port), family, socket.SOCK_DGRAM)[0][4])
try:
    print(s.recv(65535).decode())
except OSError as error:
    print("error", error)
    sys.exit(1)
