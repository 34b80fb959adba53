import assert from "node:assert/strict";
import { MessageError } from "./mod.ts";
import { Node, NodeList } from "./gen/weir_identity_v1.ts";
import { WatchEvent } from "./gen/weir_common_v1.ts";
import { MapRow, NodeConfig } from "./gen/weir_datapath_v1.ts";
import { Flow } from "./gen/flow.ts";
import { GetFlowsResponse } from "./gen/observer.ts";

Deno.test("Message.create() fills defaults and leaves unset messages out", () => {
  const node = Node.create({ name: "node-1" });
  assert.equal(node.ipv4, "");
  assert.deepEqual(node.labels, []);
  const flow = Flow.create({});
  assert.equal("IP" in flow, false);
  assert.equal(flow.verdict, "VERDICT_UNKNOWN");
});

Deno.test("Message.decode() gives back what encode() was given", () => {
  const list = NodeList.create({
    revision: 2 ** 40,
    items: [{ name: "a", labels: ["k8s:x=y"] }, { name: "b" }],
  });
  assert.deepEqual(NodeList.decode(NodeList.encode(list)), list);
  const event = WatchEvent.create({ type: "PUT", name: "n", object: new Uint8Array([1, 2]) });
  const back = WatchEvent.decode(WatchEvent.encode(event));
  assert.equal(back.type, "PUT");
  assert.deepEqual([...back.object], [1, 2]);
  const row = MapRow.create({ fields: { key: "v" } });
  assert.deepEqual(MapRow.decode(MapRow.encode(row)), row);
});

Deno.test("Message.toJson() follows protobuf's JSON mapping", () => {
  assert.deepEqual(NodeConfig.toJson({ nodeName: "n", routingMode: "TUNNEL", mtu: 0 }), {
    nodeName: "n",
    routingMode: "TUNNEL",
  });
  assert.deepEqual(NodeList.toJson({ revision: 5 }), { revision: "5" });
  const flow = Flow.create({
    time: { seconds: 1_700_000_000, nanos: 5_000_000 },
    verdict: "DROPPED",
    IP: { source: "10.0.0.1", ipVersion: "IPv4" },
    is_reply: { value: false },
  });
  assert.deepEqual(Flow.toJson(flow), {
    time: "2023-11-14T22:13:20.005000000Z",
    verdict: "DROPPED",
    IP: { source: "10.0.0.1", ipVersion: "IPv4" },
    is_reply: false,
  });
  assert.deepEqual(Flow.fromJson(Flow.toJson(flow)), flow);
});

Deno.test("Message.fromJson() takes either spelling of a field and refuses what it does not know by path", () => {
  assert.equal(NodeConfig.fromJson({ node_name: "n" }).nodeName, "n");
  const faults: [unknown, RegExp][] = [
    [{ items: [{ nam: "x" }] }, /items\[0\]\.nam: unknown field/],
    [{ items: {} }, /items: found {}, expected a list/],
    [{ revision: -1 }, /revision: found -1, expected a whole number from 0/],
    [{ items: [{ heartbeatUnixS: "x" }] }, /heartbeatUnixS/],
    ["text", /Message: found "text", expected an object/],
    [{ items: [{ name: "a\ud83d" }] }, /items\[0\]\.name: found "a\\ud83d", expected a string without half/],
  ];
  for (const [json, pattern] of faults) {
    assert.throws(
      () => NodeList.fromJson(json),
      (e: Error) => e instanceof MessageError && pattern.test(e.message),
    );
  }
});

Deno.test("Message.encode() writes only what decode() takes: half of a surrogate pair, where a text was cut, becomes U+FFFD", () => {
  const list = NodeList.create({ items: [{ name: "a\ud83d", labels: ["\udc00b", "\ud83d\ude00"] }] });
  const { items: [node] } = NodeList.decode(NodeList.encode(list));
  assert.deepEqual([node.name, node.labels], ["a\ufffd", ["\ufffdb", "\ud83d\ude00"]]);
  const row = MapRow.decode(MapRow.encode({ fields: { key: "\ud83d" } }));
  assert.deepEqual(row.fields, { key: "\ufffd" });
});

Deno.test("Message.decode() refuses truncated bytes with a typed error", () => {
  const bytes = GetFlowsResponse.encode({ flow: { uuid: "0123456789" } });
  for (let n = 1; n < bytes.length; n++) {
    assert.throws(() => GetFlowsResponse.decode(bytes.subarray(0, n)), MessageError);
  }
});
