import assert from "node:assert/strict";
import { ApiServer, type Clock, systemClock, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, MapState } from "@weir/proto/policy";
import { AnnouncedIdentities } from "./announced_identities.ts";
import { LOST_GRACE_MS } from "./lost_objects.ts";
import { createPolicyEngine } from "./create_policy_engine.ts";

const entry = (identity: number, labels: string[] = [], node = "node-1") =>
  IpcacheEntry.create({ identity, labels, node });

Deno.test("AnnouncedIdentities says which identity's first or last address a change is", () => {
  const announced = new AnnouncedIdentities();
  const set = (prefix: string, value: IpcacheEntry | undefined) => {
    const { begun = 0, ended = 0 } = announced.set(prefix, value);
    return [begun, ended];
  };
  assert.deepEqual(set("10.0.1.7/32", entry(300, ["k8s:app=a"])), [300, 0]);
  assert.deepEqual(set("10.0.1.8/32", entry(300, ["k8s:app=b"])), [0, 0]);
  assert.deepEqual(announced.labelsOf(300), ["k8s:app=b"]);
  assert.deepEqual(set("10.0.1.7/32", entry(301)), [301, 0]);
  assert.deepEqual(set("10.0.1.8/32", entry(302)), [302, 300]);
  assert.deepEqual(set("10.0.1.8/32", undefined), [0, 302]);
  assert.deepEqual(set("10.0.1.8/32", undefined), [0, 0]);
  assert.deepEqual([announced.has(300), announced.has(301), announced.labelsOf(302)], [
    false,
    true,
    undefined,
  ]);
  for (const other of [entry(9), entry(0x0100_0001), entry(303, [], "")]) {
    assert.deepEqual(set("192.0.2.0/24", other), [0, 0], "no endpoint's");
  }
});

Deno.test("A deny holds for a number that only addresses have: the allocator's table lost or released it", async () => {
  const api = new ApiServer({ name: "identity-allocator" });
  const identities = new WatchedTable<Identity>({ name: "identities" });
  const ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache" });
  api.collection({ name: "identities", message: Identity, table: identities });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: ipcache });
  api.collection({ name: "nodes", message: Node, table: new WatchedTable({ name: "nodes" }) });
  const labelsOf = (app: string) => [`k8s:app=${app}`, "k8s:io.kubernetes.pod.namespace=default"];
  const put = (number: number, app: string) =>
    identities.put(`${number}`, Identity.create({ number, labels: labelsOf(app) }));
  const announce = (host: number, identity: number, labels: string[]) => {
    const prefix = `10.0.1.${host}/32`;
    ipcache.put(prefix, { ...entry(identity, labels), prefix });
  };
  put(300, "server");
  put(302, "bad");
  announce(1, 301, labelsOf("bad"));
  announce(2, 302, labelsOf("bad"));
  announce(3, 303, ["not a label"]);
  announce(4, 304, []);
  let graceOver = Promise.withResolvers<void>();
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) =>
      ms > LOST_GRACE_MS / 2
        ? Promise.race([graceOver.promise, systemClock.sleep(0x7fffffff, signal)])
        : systemClock.sleep(ms, signal),
    monotonicMs: () => systemClock.monotonicMs() + aheadMs,
  };
  let aheadMs = 0;
  const engine = createPolicyEngine({
    database: new Database("sqlite::memory:"),
    allocator: new WeirClient({ handler: api.fetch }),
    clock,
  });
  engine.start();
  try {
    await engine.waitReady();
    const client = new WeirClient({ handler: engine.handler });
    const manifest =
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p, namespace: default},
      spec: {endpointSelector: {matchLabels: {app: server}}, ingress: [{fromEntities: [all]}],
      ingressDeny: [{fromEndpoints: [{matchLabels: {app: bad}}]}]}}`;
    await client.call("/v1/policies:apply", {
      request: { message: ApplyRequest, value: { manifest } },
      response: ApplyResponse,
    });
    const denied = async () => {
      engine.publishNow();
      const state = (await client.collection("mapstates", MapState).get("300"))!;
      return state.entries.filter(({ deny }) => deny).map(({ identity }) => identity).sort();
    };
    const until = async (what: () => Promise<boolean> | boolean) => {
      while (!await what()) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await until(async () => (await denied()).join() === "301,302");
    // Released in order, although an endpoint still has it.
    identities.delete("302");
    // The first address of a number that comes before its identity does, and one whose identity never was there.
    announce(5, 305, labelsOf("bad"));
    await until(async () => (await denied()).join() === "301,302,305");
    put(305, "good");
    await until(async () => (await denied()).join() === "301,302");
    // Nodes may hear later than the engine that the last address is gone.
    ipcache.delete("10.0.1.2/32");
    await until(() => engine.directory.lostIdentities === 1);
    assert.deepEqual(await denied(), [301, 302]);
    aheadMs = LOST_GRACE_MS;
    graceOver.resolve();
    graceOver = Promise.withResolvers();
    await until(async () => (await denied()).join() === "301");
    assert.equal(engine.directory.lostIdentities, 0);
  } finally {
    await engine.stop();
  }
});
