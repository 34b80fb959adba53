"""Answers TCP and UDP at a port, in both families, with whom it sees: "address port bytes"."""
import socket
import sys
import threading

port = int(sys.argv[1])


def plain(address):
    return address[7:] if address.startswith("::ffff:") else address


def serve_udp():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    s.bind(("::", port))
    while True:
        data, control, _, peer = s.recvmsg(65535, 256)
        # The answer leaves from the address that was asked, by whatever device.
        asked = [(level, kind, value[:16] + bytes(4)) for level, kind, value in control]
        answer = f"{plain(peer[0])} {peer[1]} {len(data)}".encode()
        try:
            s.sendmsg([answer], asked, 0, peer)
        except OSError:  # Many were asked: nobody answers from their address.
            s.sendto(answer, peer)


def serve_one(c, peer):
    n = 0
    while True:
        d = c.recv(1 << 16)
        if not d:
            break
        n += len(d)
        if d.endswith(b"?"):
            c.sendall(f"{plain(peer[0])} {peer[1]} {n}\n".encode())
    c.close()


t = socket.socket(socket.AF_INET6)
t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
t.bind(("::", port))
t.listen(16)
threading.Thread(target=serve_udp, daemon=True).start()
print("ready", flush=True)
while True:
    c, peer = t.accept()
    threading.Thread(target=serve_one, args=(c, peer), daemon=True).start()
