/** A node whose claim of an identity the allocator lost: over mutual TLS it is refused by name, and heals itself. @module */
import assert from "node:assert/strict";
import {
  credentialPaths,
  guardAccess,
  listenTls,
  type Peer,
  systemClock,
  TlsFiles,
  TrustTable,
} from "@weir/common";
import { until } from "@weir/common/testing/until";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { WeirClient } from "@weir/client";
import { Endpoint } from "@weir/proto/endpoint";
import { IpcacheEntry, ReleaseRequest, ReleaseResponse } from "@weir/proto/identity";
import { MapState } from "@weir/proto/policy";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { Database } from "../common/state.ts";
import { EndpointManager, httpDirectory } from "../endpoint-manager/mod.ts";
import { FakeDisk, FakeNeighbours, TEST_CONFIG } from "../endpoint-manager/testing.ts";
import { createIdentityAllocator } from "../identity-allocator/mod.ts";
import { ACCESS } from "./access.ts";

const HEARTBEAT_MS = 500;
const NODE = "node-2", ENDPOINT = "default/a";

/** Writes what a machine of the cluster shows. */
async function writeFiles(authority: Authority, peer: Peer, hosts: string[]): Promise<string> {
  const directory = await Deno.makeTempDir(), paths = credentialPaths(directory);
  const { keyPem, requestPem } = await createCertificateRequest(peer.node);
  const options = { peer, hosts, nowMs: Date.now(), lifetimeMs: 3_600_000 };
  const { certificatePem } = await authority.issue(requestPem, options);
  await Deno.writeTextFile(paths.key, keyPem);
  await Deno.writeTextFile(paths.cert, certificatePem);
  await Deno.writeTextFile(paths.authority, authority.certificatePem);
  return directory;
}

Deno.test("an identity that a node announces without its claim is refused over mutual TLS, and claimed again by itself", async () => {
  const database = new Database("sqlite::memory:");
  const allocator = createIdentityAllocator({ database });
  await allocator.start();
  const authority = await Authority.load("default", await createAuthority("default", Date.now()));
  const plane = await writeFiles(authority, { role: "control-plane", node: "node-1" }, ["127.0.0.1"]);
  const machine = await writeFiles(authority, { role: "node", node: NODE }, []);
  const trust = new TrustTable();
  trust.pending = undefined;
  const listener = await listenTls(guardAccess(allocator.api.fetch, ACCESS["identity-allocator"]), {
    hostname: "127.0.0.1",
    port: 0,
    files: new TlsFiles(credentialPaths(plane)),
    trust,
    clock: systemClock,
  });
  const client = new WeirClient({ url: listener.address, tlsDirectory: machine }, { joint: true });
  const local = new WeirClient({ handler: allocator.api.fetch });
  const neighbours = new FakeNeighbours(), disk = new FakeDisk();
  const directory = httpDirectory(client, NODE);
  const refusals: string[] = [];
  const manager = new EndpointManager({
    config: { ...TEST_CONFIG, nodeName: NODE, nodeIpv4: "192.0.2.2", heartbeatMs: HEARTBEAT_MS },
    directory: {
      ...directory,
      allocate: async (labels, holder) => {
        const given = await directory.allocate(labels, holder), { number: identity } = given;
        neighbours.mapStateTable.put(`${identity}`, MapState.create({ identity, policyRevision: 1 }));
        return given;
      },
      announce: async (upserts, deletes) => {
        const refused = await directory.announce(upserts, deletes);
        refusals.push(...refused.values());
        return refused;
      },
    },
    policy: neighbours,
    datapath: neighbours,
    store: disk,
    nodeStore: disk.nodeStore,
    policySetStore: disk.policySetStore,
  });
  try {
    await manager.start();
    const spec = { name: ENDPOINT, netns: "/run/netns/a", labels: ["k8s:app=a"] };
    await manager.put(ENDPOINT, Endpoint.create(spec));
    const status = () => manager.table.view.get(ENDPOINT)!.status!;
    await until("the endpoint is ready and announced", () => status().state === "READY");
    const { identity, ipv4 } = status(), prefix = `${ipv4}/32`;
    assert.equal(allocator.ipcache.get(prefix)!.node, NODE);
    const held = async () => [...await directory.holders()];
    assert.deepEqual(await held(), [[ENDPOINT, identity]]);
    // The allocator's database forgot the claim and what stood on it. A heartbeat may come between.
    const ipcache = local.collection("ipcache", IpcacheEntry);
    await until("the node is refused", async () => {
      if (refusals.length > 0) return true;
      await local.call("/v1/identities:release", {
        request: { message: ReleaseRequest, value: { node: NODE, holder: ENDPOINT } },
        response: ReleaseResponse,
      });
      await ipcache.delete(prefix);
      await new Promise((resolve) => setTimeout(resolve, HEARTBEAT_MS / 2));
      return refusals.length > 0;
    });
    assert.match(refusals[0], /node node-2 does not hold its identity/);
    assert.equal(status().policy, `${identity}`, "what runs goes on");
    await until("it is announced again", () => allocator.ipcache.get(prefix)?.identity === identity);
    await until("nothing is said to be wrong", () => status().conditions.length === 0);
    assert.deepEqual(await held(), [[ENDPOINT, identity]], "the same number, claimed again");
    assert.deepEqual([status().identity, status().state], [identity, "READY"]);
  } finally {
    await manager.stop();
    client.close();
    await listener.shutdown(0);
    await allocator.stop();
    await database.close();
    for (const path of [plane, machine]) await Deno.remove(path, { recursive: true });
  }
});
