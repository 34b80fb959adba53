/**
 * The real allocator and the real engine joined in one process: what a node sees of an identity's life.
 * @module
 */
import assert from "node:assert/strict";
import { MapState } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Database } from "@weir/common/state";
import { Reflector, WeirClient } from "@weir/client";
import { createIdentityAllocator } from "@weir/identity-allocator";
import { createPolicyEngine } from "@weir/policy-engine";
import { AllocateRequest, AllocateResponse, IpcacheEntry } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, MapState as MapStateMessage } from "@weir/proto/policy";

const POLICY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: default }
spec:
  podSelector: { matchLabels: { app: web } }
  ingress:
  - from: [{ podSelector: { matchLabels: { app: api } } }]
    ports: [{ port: http }]
  egress:
  - to: [{ podSelector: { matchLabels: { app: api } } }]
    ports: [{ port: grpc }]
`;

async function until(what: () => boolean, name: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within 10 s: ${name}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

Deno.test("policy follows identities and port names from the allocator to a watcher of one identity", async () => {
  const database = new Database("sqlite::memory:");
  const policies = new Database("sqlite::memory:");
  const allocator = createIdentityAllocator({ database, clock: new FakeClock() });
  await allocator.start();
  const directory = new WeirClient({ handler: allocator.api.fetch });
  const engine = createPolicyEngine({ database: policies, allocator: directory });
  engine.start();
  await engine.waitReady();
  const client = new WeirClient({ handler: engine.handler });
  const allocate = async (app: string) => {
    const labels = [`k8s:app=${app}`, "k8s:io.kubernetes.pod.namespace=default", "k8s:pod-template-hash=x"];
    const answer = await directory.call("/v1/identities:allocate", {
      request: { message: AllocateRequest, value: { labels, node: "node-1", holder: app } },
      response: AllocateResponse,
    });
    return answer.identity!.number;
  };
  const web = await allocate("web");
  const states = new Reflector(client.collection("mapstates", MapStateMessage), {
    query: { identity: [web] },
  }).start();
  try {
    await until(() => states.get(String(web)) !== undefined, "a map state for a new identity");
    assert.equal(states.get(String(web))!.enforceIngress, false);
    await client.call("/v1/policies:apply", {
      request: { message: ApplyRequest, value: { manifest: POLICY } },
      response: ApplyResponse,
    });
    await until(() => states.get(String(web))!.enforceIngress, "default deny");
    const ports = [{ name: "http", port: 8080, protocol: "TCP" }];
    const allows = (remote: number, direction: "INGRESS" | "EGRESS", port: number) =>
      MapState.of(states.get(String(web))!, ports).lookup(remote, direction, 6, port).allowed;
    const api = await allocate("api");
    await until(() => allows(api, "INGRESS", 8080), "the new peer is allowed");
    assert.deepEqual([allows(api, "INGRESS", 80), allows(api, "EGRESS", 9000)], [false, false]);
    const entry = {
      prefix: "10.0.0.7/32",
      identity: api,
      namedPorts: [{ name: "grpc", port: 9000, protocol: "TCP" }],
    };
    await directory.collection("ipcache", IpcacheEntry).put(entry.prefix, entry);
    await until(() => allows(api, "EGRESS", 9000), "the peer's port name");
    await directory.collection("ipcache", IpcacheEntry).delete(entry.prefix);
    await until(() => !allows(api, "EGRESS", 9000), "the port name is gone");
    assert.equal(states.list().length, 1, "nothing of other identities");
  } finally {
    await states.stop();
    await engine.stop();
    await allocator.stop();
    await policies.close();
    await database.close();
  }
});
