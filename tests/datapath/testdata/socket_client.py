"""Sockets on command: one JSON object a line in, one out. Used by socket_test.ts."""
import json, socket, sys, time

sockets = {}


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def place(name):
    return [name[0], name[1]]


def do(c):
    op = c["op"]
    if op == "tcp":
        with socket.socket(socket.AF_INET6 if c.get("six") else family(c["to"][0])) as s:
            s.settimeout(2)
            s.connect(tuple(c["to"]))
            answer = s.recv(100).decode()
            return {"peer": place(s.getpeername()), "answer": answer}
    if op == "open":
        s = socket.socket(socket.AF_INET6 if c.get("six") else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(1)
        sockets[c["name"]] = s
        return {}
    if op == "connects":  # many, for a bench
        kind = socket.SOCK_STREAM if c["type"] == "tcp" else socket.SOCK_DGRAM
        for _ in range(c["times"]):
            with socket.socket(socket.AF_INET, kind) as s:
                s.setblocking(False)
                s.connect_ex(tuple(c["to"]))
        return {}
    s = sockets[c["name"]]
    if op == "bind":
        s.bind(("::" if s.family == socket.AF_INET6 else "0.0.0.0", 0))
        return {"peer": place(s.getsockname())}
    if op == "connect":
        s.connect(tuple(c["to"]))
        return {"peer": place(s.getpeername())}
    if op == "send":  # connected
        s.send(b"hello")
        answer, source = s.recvfrom(100)
        return {"peer": place(s.getpeername()), "from": place(source), "answer": answer.decode()}
    if op == "sendto":
        s.sendto(b"hello", tuple(c["to"]))
        answer, source = s.recvfrom(100)
        return {"from": place(source), "answer": answer.decode()}
    if op == "error":  # what the kernel has to say of it
        return {"errno": s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)}
    if op == "close":
        s.close()
        return {}


for line in sys.stdin:
    start = time.monotonic()
    try:
        result = do(json.loads(line))
    except TimeoutError:
        result = {"errno": -1}
    except OSError as e:
        result = {"errno": e.errno}
    result["ms"] = (time.monotonic() - start) * 1000
    print(json.dumps(result), flush=True)
