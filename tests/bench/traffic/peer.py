"""One end of the traffic benchmark. `server PORT`, or `client ADDRESS PORT ROUNDS`: prints one JSON line with the
median and 99th percentile in microseconds of request-response on one connection, and of connect + 1 byte + close."""
import json
import socket
import sys
import time


def server(port):
    listener = socket.create_server(("", port), backlog=1024)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            data = connection.recv(64)
            if not data:
                break
            connection.send(data)
        connection.close()


def percentiles(samples):
    samples.sort()
    return {"p50": samples[len(samples) // 2] / 1000, "p99": samples[len(samples) * 99 // 100] / 1000}


def client(address, port, rounds):
    now = time.perf_counter_ns
    with socket.create_connection((address, port), timeout=5) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        samples = []
        for i in range(rounds + rounds // 10):
            begun = now()
            s.send(b"x")
            s.recv(64)
            if i >= rounds // 10:
                samples.append(now() - begun)
    connects = []
    for i in range(rounds // 5):
        begun = now()
        with socket.create_connection((address, port), timeout=5) as s:
            s.send(b"x")
            s.recv(1)
        connects.append(now() - begun)
    print(json.dumps({"rr": percentiles(samples), "crr": percentiles(connects), "rate": 1e9 / (sum(connects) / len(connects))}))


if sys.argv[1] == "server":
    server(int(sys.argv[2]))
else:
    client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
