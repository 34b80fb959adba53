"""Does what rules allow and what they do not, with a real client, on one connection; prints what became of it as JSON.

Usage: client.py text|binary PORT
"""

import json
import sys


def outcome(work):
    try:
        return work()
    except Exception as error:  # whatever the client makes of a denial
        return f"{type(error).__name__}: {error}"


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    return value


def text(port):
    from pymemcache.client.base import Client

    client = Client(("127.0.0.1", port), timeout=20, no_delay=True)
    return {
        "set": lambda: client.set("user:1", b"one", noreply=False),
        "get": lambda: client.get("user:1"),
        "get denied": lambda: client.get("secret"),
        "get again": lambda: client.get("user:1"),
        "set quietly": lambda: client.set("user:2", b"two", noreply=True),
        "set denied quietly": lambda: client.set("secret", b"mine", noreply=True),
        "get many": lambda: client.get_many(["user:1", "user:2", "user:3"]),
        "get many, one denied": lambda: client.get_many(["user:1", "secret"]),
        "set denied": lambda: client.set("secret", b"x" * 100_000, noreply=False),
        "large": lambda: client.set("user:large", b"y" * 900_000, noreply=False),
        "large back": lambda: len(client.get("user:large")),
        "delete denied": lambda: client.delete("user:1", noreply=False),
        "incr": lambda: client.set("user:n", b"1", noreply=False) and client.incr("user:n", 4),
        "flush denied": lambda: client.flush_all(noreply=False),
        "stats denied": lambda: client.stats(),
        "at last": lambda: client.get("user:2"),
    }


def binary(port):
    import bmemcached

    client = bmemcached.Client(("127.0.0.1:%d" % port,), socket_timeout=20)
    return {
        "set": lambda: client.set("user:1", "one"),
        "get": lambda: client.get("user:1"),
        "get denied": lambda: client.get("secret"),
        "get again": lambda: client.get("user:1"),
        "set many": lambda: client.set_multi({"user:2": "two", "user:3": "three"}),
        "get many": lambda: client.get_multi(["user:1", "user:2", "user:4"]),
        "set denied": lambda: client.set("secret", "x" * 100_000),
        "large": lambda: client.set("user:large", "y" * 900_000, compress_level=0),
        "large back": lambda: len(client.get("user:large")),
        "delete denied": lambda: client.delete("user:1"),
        "incr": lambda: client.incr("user:n", 4, default=1),
        "at last": lambda: client.get("user:2"),
    }


steps = {"text": text, "binary": binary}[sys.argv[1]](int(sys.argv[2]))
print(json.dumps({name: plain(outcome(work)) for name, work in steps.items()}))
