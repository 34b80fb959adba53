"""Says who answers and whom it sees: TCP connections and UDP datagrams get "NAME CLIENT-ADDRESS\\n", TCP data comes back.
Arguments: NAME 80/TCP 53/UDP ... Told to end, it goes on for the connections that it has, two seconds at most."""
import selectors
import signal
import socket
import sys
import time

ready = selectors.DefaultSelector()
name = sys.argv[1]
ends = None


def terminate(*_):
    global ends
    ends = time.monotonic() + 2


def listen(port, kind, family, address):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen(256)
    s.setblocking(False)
    ready.register(s, selectors.EVENT_READ, "listener" if kind == socket.SOCK_STREAM else "datagram")


signal.signal(signal.SIGTERM, terminate)
for arg in sys.argv[2:]:
    number, protocol = arg.split("/")
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    listen(int(number), kind, socket.AF_INET, "0.0.0.0")
    listen(int(number), kind, socket.AF_INET6, "::")

while ends is None or time.monotonic() < ends:
    for key, _ in ready.select(timeout=0.2):
        try:
            if key.data == "listener":
                connection, peer = key.fileobj.accept()
                connection.sendall(f"{name} {peer[0]}\n".encode())
                connection.settimeout(30)
                ready.register(connection, selectors.EVENT_READ, "stream")
            elif key.data == "datagram":
                _, peer = key.fileobj.recvfrom(65535)
                key.fileobj.sendto(f"{name} {peer[0]}\n".encode(), peer)
            else:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(data)
                else:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
        except OSError:
            if key.data == "stream":
                ready.unregister(key.fileobj)
                key.fileobj.close()
