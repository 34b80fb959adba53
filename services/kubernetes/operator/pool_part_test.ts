import assert from "node:assert/strict";
import { ObjectFault } from "@weir/proto/kubernetes";
import { AddressPool } from "@weir/proto/loadbalancer";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { prunePool } from "../reflectors/pools.ts";
import { observedVersion } from "./object_version.ts";
import { poolConditions } from "./pool_part.ts";

const object = {
  metadata: { name: "a", uid: "u", generation: 2 },
  spec: { blocks: [{ cidr: "192.0.2.0/30", more: 1 }], disabled: false, unknown: 1 },
};
const handed = prunePool(object), observed = observedVersion(object, handed);
const overlap = { type: "Conflict", ok: false, reason: "RangesOverlap", message: "older" };
const pool = AddressPool.create({
  name: "a",
  file: KUBERNETES_FILE_MARK,
  manifest: handed.text,
  status: { total: 4, used: 5, conditions: [overlap] },
});
const of = (more: Partial<Parameters<typeof poolConditions>[0]>) =>
  poolConditions({ observed, pool: undefined, objectFault: undefined, ...more })
    ?.map(({ type, status, reason, message }) => `${type}=${status} ${reason}: ${message}`);

Deno.test("prunePool() keeps what the load balancer reads", () => {
  assert.deepEqual(JSON.parse(handed.text).spec, { blocks: [{ cidr: "192.0.2.0/30" }], disabled: false });
});

Deno.test("poolConditions() tells what a pool has left, and whether it is used", () => {
  assert.deepEqual(of({ pool }), [
    "Valid=True Valid: The load balancer has it",
    "cilium.io/PoolConflict=True RangesOverlap: older",
    "cilium.io/IPsTotal=Unknown Counted: 4",
    "cilium.io/IPsAvailable=Unknown Counted: 0",
    "cilium.io/IPsUsed=Unknown Counted: 5",
  ]);
});

Deno.test("poolConditions() says what was refused, and counts the version before", () => {
  const fault = (generation: number) =>
    ObjectFault.create({ code: "SERVICE_INVALID", generation, error: { error: "no prefix" } });
  assert.deepEqual(of({ objectFault: fault(2) }), ["Valid=False ServiceInvalid: no prefix"]);
  assert.equal(of({ pool: { ...pool, manifest: "{}" }, objectFault: fault(2) })!.length, 5);
});

Deno.test("poolConditions() says nothing of a version that the load balancer has not, nor by a pool of people", () => {
  assert.equal(of({}), undefined);
  assert.equal(of({ pool: { ...pool, manifest: "{}" } }), undefined);
  assert.equal(of({ objectFault: ObjectFault.create({ generation: 1 }) }), undefined);
  assert.equal(of({ pool: { ...pool, file: "" } }), undefined);
});
