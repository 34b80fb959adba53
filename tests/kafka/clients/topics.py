"""Makes topics, past the proxy. Arguments: port, names."""
import sys

from confluent_kafka.admin import AdminClient, NewTopic

admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}"})
for future in admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1) for name in sys.argv[2:]]).values():
    future.result(120)
