"""Asks for the path of each line of stdin on one connection, and prints the status and the local port; "closed" when it is gone."""

import http.client
import sys

connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
connection.connect()
connection.auto_open = 0
for line in sys.stdin:
    try:
        connection.request("GET", line.strip())
        answer = connection.getresponse()
        answer.read()
        print(answer.status, connection.sock.getsockname()[1] if connection.sock else 0, flush=True)
    except (OSError, http.client.HTTPException):
        print("closed", flush=True)
