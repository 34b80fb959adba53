"""Answers Cassandra's native protocol, version 4, as a server that is content with everything: cql_server.py PORT."""
import socketserver
import struct
import sys

HEADER = struct.Struct(">BBhBi")
STARTUP, READY, RESULT = 1, 2, 8
VOID = struct.pack(">i", 1)


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        while len(head := self.rfile.read(HEADER.size)) == HEADER.size:
            _, _, stream, opcode, length = HEADER.unpack(head)
            self.rfile.read(length)
            answer, body = (READY, b"") if opcode == STARTUP else (RESULT, VOID)
            self.wfile.write(HEADER.pack(0x84, 0, stream, answer, len(body)) + body)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("0.0.0.0", int(sys.argv[1])), Connection).serve_forever()
