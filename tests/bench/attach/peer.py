"""Echoes UDP (`echo ADDRESS PORT`), or sends until an answer comes and prints the wall clock (`probe ADDRESS PORT`)."""
import socket
import sys
import time

mode, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if mode == "echo":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    print("ready", flush=True)
    while True:
        data, source = s.recvfrom(64)
        s.sendto(data, source)
print("ready", flush=True)
deadline = time.time() + 20
while time.time() < deadline:
    # A new socket each time: the first one may have been made before there was an address to send from.
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.002)
    try:
        s.sendto(b"x", (address, port))
        s.recv(64)
        print(time.time() * 1000, flush=True)
        sys.exit(0)
    except OSError:
        time.sleep(0.0002)
    finally:
        s.close()
sys.exit(1)
