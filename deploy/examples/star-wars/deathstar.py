"""A death star: answers landing requests over HTTP, on IPv4 and IPv6."""

import http.server
import os
import socket


class DeathStar(http.server.BaseHTTPRequestHandler):
    def answer(self, text):
        body = (text + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v1/request-landing":
            self.answer("Ship landed")
        else:
            self.send_error(404)

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v1/exhaust-port":
            self.answer("Panic: the death star explodes")
        else:
            self.send_error(404)

    def do_GET(self):
        self.answer("This is " + os.environ.get("POD_NAME", "a death star"))

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)  # without the parent's look-up of the host's name
        self.server_name, self.server_port = "deathstar", self.server_address[1]


Server(("::", 80), DeathStar).serve_forever()
