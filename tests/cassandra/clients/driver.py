"""What a program does with the Python driver, through a proxy that lets it read and write shop.cart and nothing else of its own.

Arguments: port, protocol version, compression ("none", "lz4", "snappy"), bytes of a large value. Prints one JSON object: what each step gave.
"""
import json
import logging
import sys
import uuid

import cassandra
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import BatchStatement, SimpleStatement

port, version, compression, large = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
logging.basicConfig(level=logging.ERROR)
profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy(["127.0.0.1"]), request_timeout=60)
cluster = Cluster(
    ["127.0.0.1"], port=port, protocol_version=version, compression=False if compression == "none" else compression,
    execution_profiles={EXEC_PROFILE_DEFAULT: profile}, connect_timeout=60, control_connection_timeout=60, idle_heartbeat_interval=0,
)
session = cluster.connect()
found = {}


def step(name, work):
    try:
        result = work()
        found[name] = "ok" if result is None else result
    except cassandra.Unauthorized as error:
        found[name] = "unauthorized: " + str(error)
    except Exception as error:  # a step that fails is a result
        found[name] = type(error).__name__ + ": " + str(error)


def rows(result):
    return sorted(list(map(str, row)) for row in result)


def write_large():
    value = b"\x07abcdefgh" * (large // 27)
    session.execute("INSERT INTO shop.cart (k, v, b) VALUES (%s, %s, %s)", ("large", 9, value))
    back = session.execute("SELECT b FROM shop.cart WHERE k = 'large'").one().b
    session.execute("DELETE FROM shop.cart WHERE k = 'large'")
    return "same" if back == value else "another value"


def prepared_large():
    value = bytes(range(256)) * (large // 256)
    insert = session.prepare("INSERT INTO shop.cart (k, v, b) VALUES (?, ?, ?)")
    session.execute(insert, ("large", 9, value))
    back = session.execute(session.prepare("SELECT b FROM shop.cart WHERE k = ?"), ("large",)).one().b
    session.execute("DELETE FROM shop.cart WHERE k = 'large'")
    return "same" if back == value else "another value"


def prepared():
    insert = session.prepare("INSERT INTO cart (k, v) VALUES (?, ?)")
    for index in range(20):
        session.execute(insert, (f"p{index}", index))
    return rows(session.execute(session.prepare("SELECT count(*) FROM cart"), ()))


def batch(*tables):
    members = BatchStatement(consistency_level=ConsistencyLevel.ONE)
    for table in tables:
        members.add(session.prepare(f"INSERT INTO shop.cart (k, v) VALUES (?, ?)") if table == "prepared"
                    else SimpleStatement(f"INSERT INTO {table} (k, v) VALUES ('b', 1)"),
                    ("b", None) if table == "prepared" else None)
    session.execute(members)


def many():
    futures = [session.execute_async("SELECT v FROM shop.cart WHERE k = 'p3'") for _ in range(300)]
    return len([future.result() for future in futures])


def many_mixed():
    good = [session.execute_async("SELECT v FROM shop.cart WHERE k = 'p3'") for _ in range(100)]
    bad = [session.execute_async("SELECT v FROM shop.secret WHERE k = 'x'") for _ in range(100)]
    refused = 0
    for future in bad:
        try:
            future.result()
        except cassandra.Unauthorized:
            refused += 1
    return [len([future.result() for future in good]), refused]


def use_of_another():
    session.set_keyspace("vault")
    try:
        return rows(session.execute("SELECT v FROM cart WHERE k = 'x'"))
    finally:
        session.set_keyspace("shop")


step("no keyspace", lambda: rows(session.execute("SELECT k, v FROM shop.cart WHERE k = 'a'")))
step("use", lambda: session.set_keyspace("shop"))
step("select", lambda: rows(session.execute("SELECT k, v FROM cart WHERE k = 'a'")))
step("select denied", lambda: rows(session.execute("SELECT * FROM secret")))
step("after the denial", lambda: rows(session.execute("SELECT k, v FROM cart WHERE k = 'a'")))
step("case", lambda: rows(session.execute('SELECT k, v FROM SHOP . "cart" WHERE k = \'a\'')))
step("another keyspace's cart", use_of_another)
step("prepared", prepared)
step("prepare denied", lambda: session.prepare("SELECT * FROM secret WHERE k = ?"))
step("batch", lambda: batch("cart", "prepared", "shop.cart"))
step("batch denied", lambda: batch("cart", "prepared", "secret"))
step("batch text denied", lambda: session.execute(
    "BEGIN BATCH INSERT INTO cart (k) VALUES ('q') UPDATE secret SET v = 1 WHERE k = 'q' APPLY BATCH"))
step("traced", lambda: "id" if session.execute("SELECT v FROM cart WHERE k = 'a'", trace=True).response_future._query_traces else "none")
step("many", many)
step("many mixed", many_mixed)
step("large", write_large)
step("large prepared", prepared_large)
step("truncate denied", lambda: session.execute("TRUNCATE cart"))
step("clean up", lambda: [session.execute(f"DELETE FROM cart WHERE k = '{key}'") for key in ["b"] + [f"p{n}" for n in range(20)]] and None)
step("at the end", lambda: rows(session.execute("SELECT k, v FROM cart WHERE k = 'a'")))
found["protocol"] = cluster.protocol_version
print(json.dumps(found))
cluster.shutdown()
