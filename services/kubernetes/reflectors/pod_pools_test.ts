import assert from "node:assert/strict";
import { prunePodPool } from "./pod_pools.ts";

// deno-lint-ignore no-explicit-any
const pool = (name: string, spec: any) => ({ metadata: { name, uid: `uid-${name}`, generation: 1 }, spec });
const EDGE = {
  ipv4: { cidrs: ["10.50.0.0/16"], maskSize: 27 },
  ipv6: { cidrs: ["fd50::/64"], maskSize: 120 },
};

Deno.test("prunePodPool() leaves the pool of everybody to the nodes' own prefixes, and refuses one that selects pods", () => {
  assert.equal(prunePodPool(pool("default", EDGE)), undefined);
  assert.throws(() => prunePodPool(pool("edge", { ...EDGE, podSelector: {} })), /it selects pods by labels/);
  const { text, digest, key } = prunePodPool(pool("edge", EDGE))!;
  assert.equal(key, "edge");
  assert.equal(prunePodPool(pool("edge", { ipv6: EDGE.ipv6, ipv4: EDGE.ipv4 }))?.digest, digest);
  assert.deepEqual(JSON.parse(text), {
    cidrsV4: ["10.50.0.0/16"],
    lengthV4: 27,
    cidrsV6: ["fd50::/64"],
    lengthV6: 120,
  });
});
