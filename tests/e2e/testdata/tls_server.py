"""A TLS server that says who came and for whom: "ADDRESS PORT SERVER-NAME". Its only group is P-384: who begins with another is told to retry."""

import socket
import ssl
import sys
import threading

port, certificate, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_ecdh_curve("secp384r1")


def named(connection, name, _context):
    connection.weir_name = name or "-"


context.sni_callback = named


def serve(plain):
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)
            address, port = plain_peer(connection)
            text = f"{address} {port} {connection.weir_name}\n".encode()
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
    except (ssl.SSLError, OSError):
        pass


def plain_peer(connection):
    address, port = connection.getpeername()[:2]
    return address.removeprefix("::ffff:"), port


with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=serve, args=(plain,), daemon=True).start()
