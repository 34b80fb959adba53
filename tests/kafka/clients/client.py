"""What a program does with a client of Kafka's, through a proxy that lets it produce to and consume from "orders" alone.

Arguments: "librdkafka" or "kafka-python", port, group. Prints one JSON object: what each step gave.
"""
import json
import sys
import time

client, port, group = sys.argv[1], sys.argv[2], sys.argv[3]
found = {}


def step(name, work):
    try:
        found[name] = work()
    except Exception as error:  # a step that fails is a result
        found[name] = type(error).__name__ + ": " + str(error)


def librdkafka():
    from confluent_kafka import Consumer, Producer
    servers = {"bootstrap.servers": f"127.0.0.1:{port}", "client.id": "shop"}
    producer = Producer({**servers, "message.timeout.ms": 60000, "message.max.bytes": 4000000, "compression.type": "none"})

    def produce(topic, count, size=100):
        outcome = []
        for number in range(count):
            producer.produce(topic, b"%d " % number + b"x" * size, on_delivery=lambda error, _: outcome.append(error))
        producer.flush(90)
        return sorted({"ok" if error is None else error.name() for error in outcome}) + [len(outcome)]

    def consume(topic, count):
        consumer = Consumer({**servers, "group.id": group, "auto.offset.reset": "earliest", "fetch.message.max.bytes": 4000000})
        consumer.subscribe([topic])
        seen, end = 0, time.time() + 90
        try:
            while seen < count and time.time() < end:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    return message.error().name()
                seen += 1
            consumer.commit(asynchronous=False)
        finally:
            consumer.close()
        return seen

    def transaction(topic):
        transactional = Producer({**servers, "transactional.id": f"tx-{group}"})
        transactional.init_transactions(60)
        transactional.begin_transaction()
        outcome = []
        transactional.produce(topic, b"in a transaction", on_delivery=lambda error, _: outcome.append(error))
        transactional.flush(60)
        if outcome[0] is not None:
            transactional.abort_transaction(60)
            return outcome[0].name()
        transactional.commit_transaction(60)
        return "ok"

    step("topics", lambda: sorted(name for name in producer.list_topics(timeout=60).topics if not name.startswith("__")))
    step("produce", lambda: produce("orders", 20))
    step("produce denied", lambda: produce("secret", 1))
    step("produce again", lambda: produce("orders", 20))
    step("produce large", lambda: produce("orders", 3, 900000))
    step("consume", lambda: consume("orders", 43))
    step("consume denied", lambda: consume("secret", 1))
    step("transaction", lambda: transaction("orders"))
    step("transaction denied", lambda: transaction("secret"))


def kafka_python():
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.structs import TopicPartition
    servers = {"bootstrap_servers": f"127.0.0.1:{port}", "client_id": "shop", "request_timeout_ms": 60000}
    producer = KafkaProducer(**servers, acks="all", max_block_ms=20000, max_request_size=4000000)

    def produce(topic, count, size=100):
        futures = [producer.send(topic, b"%d " % number + b"x" * size) for number in range(count)]
        producer.flush(timeout=90)
        return sorted({"ok" if future.succeeded() else type(future.exception).__name__ for future in futures}) + [len(futures)]

    def consume(topic, count):
        consumer = KafkaConsumer(
            topic, **servers, group_id=group, auto_offset_reset="earliest", consumer_timeout_ms=60000, session_timeout_ms=30000)
        seen = 0
        try:
            for _ in consumer:
                seen += 1
                if seen == count:
                    break
            consumer.commit()
        finally:
            consumer.close()
        return seen

    step("topics", lambda: sorted(name for name in KafkaConsumer(**servers).topics() if not name.startswith("__")))
    step("produce", lambda: produce("orders", 20))
    step("produce denied", lambda: produce("secret", 1))
    step("produce again", lambda: produce("orders", 20))
    step("produce large", lambda: produce("orders", 3, 900000))
    step("consume", lambda: consume("orders", 43))


librdkafka() if client == "librdkafka" else kafka_python()
print(json.dumps(found))
