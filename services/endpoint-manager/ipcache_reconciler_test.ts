import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { IpcacheEntry } from "@weir/proto/identity";
import { BATCH_PREFIXES_MAX, IpcacheReconciler } from "./ipcache_reconciler.ts";
import { Peer } from "./peer.ts";
import { FakeNeighbours } from "./testing.ts";

function bench() {
  const neighbours = new FakeNeighbours();
  const reconciler = new IpcacheReconciler({
    process: () => undefined,
    place: { nodeName: "node-1", nodeIpv4: "192.0.2.1", nodeIpv6: "" },
    datapath: neighbours,
    peer: new Peer({ name: "datapath", clock: new FakeClock(), effect: () => "" }),
  });
  const put = (i: number, identity = 300) => {
    const prefix = `10.2.${i >> 8}.${i & 255}/32`;
    reconciler.join.setEntry(prefix, IpcacheEntry.create({ prefix, identity, node: "node-2" }));
  };
  return { neighbours, reconciler, put };
}

Deno.test("IpcacheReconciler replaces once, then tells what changed, in batches", async () => {
  const { neighbours, reconciler, put } = bench();
  put(1);
  await reconciler.reconcile();
  put(2);
  await reconciler.reconcile();
  await reconciler.reconcile();
  assert.deepEqual(neighbours.take(), ["updateIpcache replace +3 -0", "updateIpcache +1 -0"]);
  for (let i = 0; i < BATCH_PREFIXES_MAX + 5; i++) put(i, 301);
  await reconciler.reconcile();
  assert.deepEqual(neighbours.take(), [`updateIpcache +${BATCH_PREFIXES_MAX} -0`, "updateIpcache +5 -0"]);
  reconciler.forget();
  assert.equal(reconciler.complete, false);
  await reconciler.reconcile();
  assert.deepEqual(neighbours.take(), [`updateIpcache replace +${BATCH_PREFIXES_MAX + 7} -0`]);
});

Deno.test("IpcacheReconciler tells everything after a call of which nobody knows what came of it", async () => {
  const { neighbours, reconciler, put } = bench();
  put(1);
  await reconciler.reconcile();
  neighbours.take();
  neighbours.fail = "updateIpcache";
  put(2);
  await assert.rejects(reconciler.reconcile());
  assert.equal(reconciler.isTold, false);
  neighbours.fail = undefined;
  await reconciler.reconcile();
  assert.deepEqual(neighbours.take(), ["updateIpcache replace +4 -0"]);
  assert.equal(reconciler.isTold, true);
  assert.equal(neighbours.kernelIpcache.get("10.2.0.2/32"), 300);
});

Deno.test("IpcacheReconciler knows which prefixes of policies the datapath leaves out, by its newest answer", async () => {
  const { neighbours, reconciler, put } = bench();
  await reconciler.reconcile();
  assert.deepEqual(reconciler.left, new Set());
  neighbours.roomless.add("198.51.100.0/24");
  put(1);
  await reconciler.reconcile();
  assert.deepEqual(reconciler.left, new Set(["198.51.100.0/24"]));
  neighbours.roomless.clear();
  put(2);
  await reconciler.reconcile();
  assert.deepEqual(reconciler.left, new Set());
});

Deno.test("IpcacheReconciler tells a batch again that was refused", async () => {
  const { neighbours, reconciler, put } = bench();
  await reconciler.reconcile();
  neighbours.take();
  const update = neighbours.updateIpcache;
  neighbours.updateIpcache = () =>
    Promise.reject(new ProblemError("IPCACHE_INVALID", { status: 422, detail: "no" }));
  put(1);
  await assert.rejects(reconciler.reconcile(), { code: "IPCACHE_INVALID" });
  neighbours.updateIpcache = update;
  await reconciler.reconcile();
  assert.deepEqual(neighbours.take(), ["updateIpcache +1 -0"]);
});
