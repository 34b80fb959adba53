/**
 * A database as version bb843b6 left it (testdata/load-balancer-0.sql: its first schema) keeps what it holds: services with
 * their ids, addresses and node ports, which kernels have in their maps; backends, a pool, and what was said of a backend.
 * @module
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { WeirClient } from "@weir/client";
import { Database } from "@weir/common/state";
import { AddressPool, Backend, BackendOverride, Service } from "@weir/proto/loadbalancer";
import { createLoadBalancer } from "./routes.ts";

const OLD = new URL("testdata/load-balancer-0.sql", import.meta.url);

Deno.test("A load balancer's database of the first schema keeps services, ids, addresses, backends and pools", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/load-balancer.db`;
  const old = new DatabaseSync(path);
  old.exec(await Deno.readTextFile(OLD));
  old.close();
  const database = new Database(`sqlite:${path}`);
  try {
    // The second start finds a database that has been migrated.
    for (const start of ["first", "second"]) {
      const balancer = createLoadBalancer({ database });
      balancer.start();
      try {
        await balancer.waitReady();
        const client = new WeirClient({ handler: balancer.handler });
        const services = (await client.collection("services", Service).list()).items;
        assert.deepEqual(
          services.map((
            { name, clusterIps, externalIps, ports },
          ) => [name, clusterIps, externalIps, ports.map(({ id }) => id)])
            .sort(),
          [
            ["kube-system/dns", ["10.96.0.10"], [], [2, 3]],
            ["shop/web", ["10.96.1.1"], ["203.0.113.0"], [1]],
          ],
          start,
        );
        const web = services.find(({ name }) => name === "shop/web")!.ports[0];
        assert.deepEqual(web.frontends.map(({ kind, address, port }) => [kind, address, port]), [
          ["CLUSTER_IP", "10.96.1.1", 80],
          ["LOAD_BALANCER", "203.0.113.0", 80],
          ["NODE_PORT", "", 30080],
        ]);
        assert.equal(web.affinityTimeoutS, 10_800);
        const backends = (await client.collection("backends", Backend).list()).items;
        assert.deepEqual(backends.map(({ name, state }) => [name, state]).sort(), [
          ["2/10.0.0.5/5353", "ACTIVE"],
          ["2/10.0.1.6/5353", "QUARANTINED"],
          ["3/10.0.0.5/5353", "ACTIVE"],
          ["3/10.0.1.6/5353", "QUARANTINED"],
        ]);
        const overrides = (await client.collection("backendoverrides", BackendOverride).list()).items;
        assert.deepEqual(overrides.map(({ name }) => name), ["kube-system/dns/10.0.1.6"]);
        const pools = (await client.collection("addresspools", AddressPool).list()).items;
        assert.deepEqual(pools.map(({ name, status }) => [name, status?.used]), [["blue", 1]]);
        // What is given out next is nobody's.
        const manifest = JSON.stringify({
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: `new-${start}`, namespace: "shop" },
          spec: { type: "LoadBalancer", selector: { app: "new" }, ports: [{ port: 80, protocol: "TCP" }] },
        });
        const added = await client.collection("services", Service).put(
          `shop/new-${start}`,
          Service.create({ manifest }),
        );
        const taken = new Set(
          services.flatMap(({ clusterIps, externalIps }) => [...clusterIps, ...externalIps]),
        );
        for (const address of [...added.clusterIps, ...added.externalIps]) {
          assert.equal(taken.has(address), false, address);
        }
        assert.equal(added.externalIps.length, 1);
        assert.equal([1, 2, 3].includes(added.ports[0].id), false);
        await client.collection("services", Service).delete(`shop/new-${start}`);
      } finally {
        await balancer.stop();
      }
    }
  } finally {
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
});
