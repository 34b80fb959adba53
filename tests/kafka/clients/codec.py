"""kafka-python's own codec as an oracle: reads messages, one JSON object a line, and says what it makes of each.

  {"name": "FetchRequest", "version": 4, "hex": BYTES} -> {"hex": what it writes of it, "texts": all its texts, sorted}
  or {"unknown": why} where it has no such message, and {"refused": why} where it cannot read it.
"""
import importlib
import json
import pkgutil
import sys

import kafka.protocol
from kafka.protocol.api_message import ApiMessage
from kafka.protocol.data_container import DataContainer

for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
    if ".old" not in module.name and not module.name.endswith("generate_stubs"):
        importlib.import_module(module.name)


def classes(root):
    for each in root.__subclasses__():
        yield each
        yield from classes(each)


messages = {each.name: each for each in classes(ApiMessage) if getattr(each, "_json", None)}


def texts(value, version):
    if isinstance(value, str):
        yield value
    elif isinstance(value, DataContainer):
        for name, field in value._struct.fields.items():
            if field.for_version_q(version):
                yield from texts(getattr(value, name), version)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts(each, version)


def answer(asked):
    message, version = messages.get(asked["name"]), asked["version"]
    if message is None or version > message.max_version:
        return {"unknown": f"{asked['name']} {version}"}
    try:
        read = message.decode(bytes.fromhex(asked["hex"]), version=version)
        # What it reads without a header has no such field, which writing asks for.
        read._header = None
        return {"hex": bytes(read.encode(version=version)).hex(), "texts": sorted(texts(read, version))}
    except Exception as error:  # whatever its codec makes of bytes that are no message
        return {"refused": repr(error)[:200]}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
