"""Answers on several ports of both families: TCP with one line, UDP with an echo. Arguments: 80/TCP 53/UDP ..."""
import selectors
import socket
import sys

ready = selectors.DefaultSelector()


def listen(port, kind, family, address):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen(64)
    s.setblocking(False)
    ready.register(s, selectors.EVENT_READ, "listener" if kind == socket.SOCK_STREAM else "datagram")


for arg in sys.argv[1:]:
    number, protocol = arg.split("/")
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    listen(int(number), kind, socket.AF_INET, "0.0.0.0")
    listen(int(number), kind, socket.AF_INET6, "::")

while True:
    for key, _ in ready.select():
        try:
            if key.data == "listener":
                connection, _ = key.fileobj.accept()
                connection.setblocking(False)
                ready.register(connection, selectors.EVENT_READ, "stream")
            elif key.data == "datagram":
                data, peer = key.fileobj.recvfrom(65535)
                key.fileobj.sendto(data, peer)
            else:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.send(data)
                else:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
        except OSError:
            if key.data == "stream":
                ready.unregister(key.fileobj)
                key.fileobj.close()
