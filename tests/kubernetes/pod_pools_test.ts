/** Pools of Kubernetes with the real identity allocator, which holds them. @module */
import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { systemClock } from "@weir/common";
import { Database } from "@weir/common/state";
import { until } from "@weir/common/testing/until";
import { createIdentityAllocator } from "@weir/identity-allocator";
import { PodPool } from "@weir/proto/identity";
import { Mirror } from "../../services/kubernetes/mirror.ts";
import { PodPoolTarget, prunePodPool } from "../../services/kubernetes/reflectors/pod_pools.ts";

// deno-lint-ignore no-explicit-any
const pool = (name: string, spec: any) => ({ metadata: { name, uid: `uid-${name}`, generation: 1 }, spec });
const EDGE = {
  ipv4: { cidrs: ["10.50.0.0/16"], maskSize: 27 },
  ipv6: { cidrs: ["fd50::/64"], maskSize: 120 },
};

Deno.test("PodPoolTarget makes the identity allocator hold what Kubernetes has, and leaves what people put", async () => {
  const database = new Database("sqlite::memory:");
  const allocator = createIdentityAllocator({ database });
  await allocator.start();
  const client = new WeirClient({ handler: allocator.api.fetch });
  const { log } = allocator.api;
  const target = new PodPoolTarget(client, {
    onChange: (name) => mirror.heldChanged(name),
    onSynced: () => mirror.compareAll(),
    clock: systemClock,
    log,
  });
  const mirror: Mirror = new Mirror({ target, clock: systemClock, log, onFault: () => {} });
  const pools = client.collection("podpools", PodPool);
  const names = async () => (await pools.list()).items.map(({ name }) => name).sort().join();
  try {
    await pools.put("mine", { cidrsV4: ["10.60.0.0/16"], lengthV4: 24 });
    target.held.start();
    mirror.start();
    mirror.want("edge", prunePodPool(pool("edge", EDGE)));
    mirror.complete("CiliumPodIPPool");
    await until("it is there", async () => await names() === "edge,mine");
    assert.match((await pools.get("edge"))!.file, /^kubernetes:/);
    await pools.delete("edge");
    await until("it is there again", async () => await names() === "edge,mine");
    mirror.want("edge", undefined);
    await until("it is gone", async () => await names() === "mine");
  } finally {
    await mirror.stop();
    await target.held.stop();
    client.close();
    await allocator.stop();
    await database.close();
  }
});
