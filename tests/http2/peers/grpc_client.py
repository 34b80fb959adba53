"""Calls on one channel: grpc_client.py ADDRESS:PORT, then a line of stdin for each call, "KIND METHOD [ARGUMENT]". Prints "STATUS DETAIL" for each.

KIND: unary (the answer's text), stream (messages and bytes that came), echo (messages that came back as they were sent, one after the other)."""

import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_retries", 0)])


def unary(method, argument=""):
    return channel.unary_unary(method)(argument.encode(), timeout=60, wait_for_ready=False).decode()


def stream(method, argument):
    sizes = [len(message) for message in channel.unary_stream(method)(argument.encode(), timeout=60)]
    return f"{len(sizes)} {sum(sizes)}"


def echo(method, argument):
    """Each message is sent when the one before it is back."""
    import queue

    waiting = queue.SimpleQueue()
    calls = channel.stream_stream(method)(iter(waiting.get, None), timeout=60)
    same = 0
    for number in range(int(argument)):
        message = f"{number}".encode() * 100
        waiting.put(message)
        same += next(calls) == message
    waiting.put(None)
    return f"{same} {len(list(calls))}"


for line in sys.stdin:
    kind, *words = line.split()
    try:
        print("OK", {"unary": unary, "stream": stream, "echo": echo}[kind](*words), flush=True)
    except grpc.RpcError as error:
        print(error.code().name, error.details(), flush=True)
