"""Numbers over TCP and UDP that show what was lost, however slow the machine is. Roles: `serve PORT` echoes TCP and counts both;
`send ADDRESS PORT` sends 1, 2, 3, ... over both and compares each echo. Each keeps what it knows in STATE, a file."""
import json
import os
import select
import socket
import sys
import time

role, state_file = sys.argv[1], os.environ["STATE"]


def tell(state):
    with open(state_file + ".new", "w") as file:
        json.dump(state, file)
    os.rename(state_file + ".new", state_file)


def serve(port):
    tcp = socket.create_server(("0.0.0.0", port))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", port))
    state = {"datagrams": 0, "newest": 0}
    clients = []
    tell(state)
    while True:
        for ready in select.select([tcp, udp, *clients], [], [])[0]:
            if ready is tcp:
                clients.append(tcp.accept()[0])
            elif ready is udp:
                number = int(udp.recv(64))
                state["datagrams"] += 1
                state["newest"] = max(state["newest"], number)
                tell(state)
            else:
                data = ready.recv(4096)
                if data:
                    ready.sendall(data)
                else:
                    clients.remove(ready)


def send(address, port):
    state = {"sent": 0, "error": ""}
    try:
        tcp = socket.create_connection((address, port))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echoes = tcp.makefile("rb")
        while True:
            number = state["sent"] + 1
            udp.sendto(b"%d" % number, (address, port))
            tcp.sendall(b"%d\n" % number)
            line = echoes.readline()
            if line != b"%d\n" % number:
                raise RuntimeError("after %d came %r" % (number, line))
            state["sent"] = number
            tell(state)
            time.sleep(0.02)
    except Exception as error:
        state["error"] = repr(error)
        tell(state)


if role == "serve":
    serve(int(sys.argv[2]))
else:
    send(sys.argv[2], int(sys.argv[3]))
