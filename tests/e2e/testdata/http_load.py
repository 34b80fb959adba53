"""Connections that are kept and ask for /a and /b in turn, again and again; made anew when they end.

http_load.py ADDRESS PORT COUNT. Each line of stdin is a phase: requests that begin after it was read are counted with it. Prints what was seen so far, as JSON,
five times a second: answers by "PHASE PATH STATUS", ports of connections that ended, attempts that were refused or failed otherwise, requests that got
neither an answer nor an end within a minute, connections that were answered and are open, and answers that were no answer to what was asked."""

import collections
import json
import socket
import sys
import threading
import time

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lock = threading.Lock()
phase = "0"
seen = collections.Counter()
ended, wrong, answered = [], [], set()
refused = failed = silent = 0


def ask(connection, stream, path):
    own, own_port = connection.getsockname()[:2]
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: web\r\n\r\n".encode())
    status = stream.readline().split()
    if len(status) < 2:
        raise ConnectionResetError
    length = 0
    while (line := stream.readline().strip()) != b"":
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    body = stream.read(length).decode()
    if len(body) < length:
        raise ConnectionResetError
    expected = f"{own} {own_port} GET {path} 0\n" if status[1] == b"200" else "Access denied\r\n"
    return status[1].decode(), "" if body == expected else f"{path}: {status} {body!r}"


def keep():
    global refused, failed, silent
    while True:
        try:
            connection = socket.create_connection((address, port), 60)
        except OSError as error:
            with lock:
                if isinstance(error, ConnectionRefusedError):
                    refused += 1
                else:
                    failed += 1
            time.sleep(0.1)
            continue
        own_port, turn = connection.getsockname()[1], 0
        try:
            with connection, connection.makefile("rb") as stream:
                while True:
                    tag, path, turn = phase, "ab"[turn % 2], turn + 1
                    status, fault = ask(connection, stream, f"/{path}")
                    with lock:
                        answered.add(own_port)
                        seen[f"{tag} /{path} {status}"] += 1
                        if fault:
                            wrong.append(fault)
                    time.sleep(0.1)
        except OSError as error:
            with lock:
                silent += isinstance(error, TimeoutError)
                answered.discard(own_port)
                ended.append(own_port)


def listen():
    global phase
    for line in sys.stdin:
        phase = line.strip()


for target in [listen] + [keep] * count:
    threading.Thread(target=target, daemon=True).start()
while True:
    time.sleep(0.2)
    with lock:
        said = dict(
            phase=phase, seen=seen, ended=ended, refused=refused, failed=failed, silent=silent, open=len(answered), wrong=wrong
        )
        print(json.dumps(said), flush=True)
