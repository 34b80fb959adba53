/** What a test leaves behind, and what the next one finds. */
import assert from "node:assert/strict";
import { createMap, MapType, u32 } from "@weir/loader";
import { kernelTest } from "./kernel_test_case.ts";
import { LoadedNode } from "./loaded_node.ts";
import { SHOT } from "./node.ts";
import { packet, UDP } from "./packet.ts";
import { FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const ARRAYS: number[] = [MapType.ARRAY, MapType.PERCPU_ARRAY];

/** Names of the maps that have contents. */
function filled({ object, ring }: LoadedNode): string[] {
  return object.maps.filter(({ name, type }) => {
    if (type === MapType.RINGBUF) return ring.pressure.bytes > 0;
    const { values, count } = object.openMap(name).packed();
    return ARRAYS.includes(type) ? values.some((byte) => byte !== 0) : count > 0;
  }).map(({ name }) => name);
}

kernelTest("what a test writes into any map is gone in the next test", async () => {
  const node = await LoadedNode.take({});
  assert.deepEqual(filled(node), []);
  const maps = node.object.maps.filter(({ type }) => type !== MapType.RINGBUF);
  for (const { name, type, entriesMax, inner } of maps) {
    const map = node.map(name);
    if (inner) {
      using one = createMap({ ...inner, name: "one" });
      map.update(u32(entriesMax - 1), u32(one.fd));
    } else {
      const key = new Uint8Array(map.info.keySize).fill(1);
      map.update(
        ARRAYS.includes(type) ? u32(entriesMax - 1) : key.fill(0, 1, 4),
        new Uint8Array(map.valueBytes).fill(1),
      );
    }
  }
  assert.deepEqual(filled(node), maps.map(({ name }) => name));
  node.giveBack();
  const next = await LoadedNode.take({});
  assert.equal(next, node);
  assert.deepEqual(filled(next), []);
  next.giveBack();
});

kernelTest("what packets leave in the maps is gone in the next test", async () => {
  {
    const { node, from, to } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, { enforceIngress: true, rules: [] });
    for (const f of FAMILIES) {
      for (const protocol of [6, UDP]) {
        from(1, { from: f.a, to: f.b, protocol });
        from(1, { from: f.a, to: f.world, protocol });
        to(1, { from: f.world, to: f.a, protocol });
        for (const program of ["from_netdev", "to_netdev", "to_overlay"]) {
          node.run(program, packet({ from: f.remote, to: f.host, protocol }));
        }
      }
      assert.equal(from(2, { from: f.a, to: f.b }).verdict, SHOT);
    }
  }
  const next = await LoadedNode.take({});
  assert.deepEqual(filled(next), []);
  next.giveBack();
});
