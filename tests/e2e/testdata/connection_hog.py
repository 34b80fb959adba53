"""Opens connections, asks for /b on each, and keeps them until stdin ends.

connection_hog.py ADDRESS PORT COUNT. Prints, as JSON, how many were denied by HTTP, refused, and failed otherwise."""

import json
import socket
import sys

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
seen = dict(denied=0, refused=0, failed=0)
for _ in range(count):
    try:
        connection = socket.create_connection((address, port), 60)
        connection.sendall(b"GET /b HTTP/1.1\r\nHost: web\r\n\r\n")
        seen["denied" if connection.recv(4096).startswith(b"HTTP/1.1 403 ") else "failed"] += 1
        held.append(connection)
    except ConnectionRefusedError:
        seen["refused"] += 1
    except OSError:
        seen["failed"] += 1
print(json.dumps(seen), flush=True)
sys.stdin.read()
