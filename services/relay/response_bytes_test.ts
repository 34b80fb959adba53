import assert from "node:assert/strict";
import { GetFlowsResponse } from "@weir/proto/observer";
import { seededRandom } from "../../tests/seeded_random.ts";
import { readResponseHead } from "./response_bytes.ts";

Deno.test("readResponseHead() reads names and time as they were written, and lets through what decoders take, and nothing else", () => {
  const random = seededRandom(11);
  let taken = 0;
  for (let round = 0; round < 2000; round++) {
    const time = { seconds: Math.floor(random() * 4e9), nanos: Math.floor(random() * 1e9) };
    const name = `default/node-${Math.floor(random() * 300)}`, uuid = "ü".repeat(random() * 30);
    const bytes = GetFlowsResponse.encode({
      flow: { uuid, node_name: "x", time, source: { labels: ["a", "b=ü"] }, policy_match_type: 3 },
      node_name: name,
      time,
    });
    const head = readResponseHead(bytes);
    assert.deepEqual([head.kind, head.nodeNames], ["flow", [name, "x"]]);
    assert.ok(Math.abs(head.unixMs! - (time.seconds * 1000 + time.nanos / 1e6)) < 0.001);
    const broken = round % 2 ? bytes.slice(0, 1 + Math.floor(random() * (bytes.length - 1))) : bytes.slice();
    broken[Math.floor(random() * broken.length)] = Math.floor(random() * 256);
    try {
      readResponseHead(broken);
      taken++;
      GetFlowsResponse.decode(broken);
    } catch (error) {
      // What is cut or changed ends in nothing but a RangeError, and what passes can be decoded.
      assert.ok(error instanceof RangeError, `${error} of ${broken}`);
    }
  }
  assert.ok(taken > 100, `${taken}`);
  assert.deepEqual(readResponseHead(new Uint8Array(0)), {
    kind: "nothing",
    nodeNames: [],
    unixMs: undefined,
    position: undefined,
    bytes: new Uint8Array(0),
  });
  const plain = GetFlowsResponse.encode({ flow: { uuid: "u" }, node_name: "n" });
  for (const next of [0, 1, 4_000_000_000, 2 ** 52]) {
    const place = GetFlowsResponse.encode({ position: { ring: 4_294_967_295, next } });
    const head = readResponseHead(new Uint8Array([...plain, ...place]));
    assert.deepEqual(head.position, { ring: 4_294_967_295, next });
    assert.deepEqual([...head.bytes], [...plain]);
  }
});
