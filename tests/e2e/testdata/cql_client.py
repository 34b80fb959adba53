"""Sends CQL texts on one connection, version 4, and prints a line for each: `ok`, or `0x2100 TEXT`: cql_client.py ADDRESS PORT TEXT..."""
import socket
import struct
import sys

HEADER = struct.Struct(">BBhBi")
STARTUP, QUERY, ERROR = 1, 7, 0


def string(text):
    return struct.pack(">H", len(text)) + text


with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as server:
    answers = server.makefile("rb")

    def ask(opcode, body):
        server.sendall(HEADER.pack(4, 0, 1, opcode, len(body)) + body)
        head = answers.read(HEADER.size)
        if len(head) < HEADER.size:
            sys.exit("closed")
        _, _, _, answer, length = HEADER.unpack(head)
        body = answers.read(length)
        if answer != ERROR:
            return "ok"
        code, size = struct.unpack_from(">iH", body)
        return f"{code:#x} {body[6:6 + size].decode()}"

    ask(STARTUP, struct.pack(">H", 1) + string(b"CQL_VERSION") + string(b"3.0.0"))
    for text in sys.argv[3:]:
        cql = text.encode()
        print(ask(QUERY, struct.pack(">i", len(cql)) + cql + struct.pack(">HB", 1, 0)), flush=True)
