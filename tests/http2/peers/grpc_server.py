"""A gRPC server that says who calls: grpc_server.py PORT. Messages are bytes as they are; any service has these methods."""

import concurrent.futures
import sys

import grpc


def whoami(request, context):
    """The peer's address and port, and how long the message was."""
    return f"{context.peer()} {len(request)}".encode()


def fails(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "there is none")


def many(request, context):
    """As many messages of 1 KiB as the request says."""
    for _ in range(int(request)):
        yield b"x" * 1024


def echo(requests, context):
    yield from requests


METHODS = {
    "Whoami": grpc.unary_unary_rpc_method_handler(whoami),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Many": grpc.unary_stream_rpc_method_handler(many),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
}


class AnyService(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method.rsplit("/", 1)[1])


server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((AnyService(),))
server.add_insecure_port(f"[::]:{sys.argv[1]}")
server.start()
server.wait_for_termination()
