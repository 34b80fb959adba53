"""Answers at each address given as argument, on TCP and UDP port 8080, with that address. Used by socket_test.ts."""
import select, socket, sys

PORT = 8080
poll, by_fd = select.poll(), {}
for host in sys.argv[1:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, PORT))
        if kind == socket.SOCK_STREAM:
            s.listen(16)
        by_fd[s.fileno()] = (s, kind, host.encode())
        poll.register(s, select.POLLIN)
print("ready", flush=True)
while True:
    for fd, _ in poll.poll():
        s, kind, host = by_fd[fd]
        if kind == socket.SOCK_STREAM:
            c, _ = s.accept()
            c.sendall(host)
            c.close()
        else:
            _, source = s.recvfrom(100)
            s.sendto(host, source)
