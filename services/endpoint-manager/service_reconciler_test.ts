import assert from "node:assert/strict";
import type { Init } from "@weir/proto";
import { type ServicesUpdate, ServicesUpdateResponse } from "@weir/proto/datapath";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Peer } from "./peer.ts";
import { ServiceReconciler, UPDATE_OBJECTS_MAX } from "./service_reconciler.ts";
import { ChangeTable } from "./testing.ts";

/** A reconciler whose datapath is a model: it holds what it was given, as the real one would. */
class Bench {
  readonly clock = new FakeClock(1000);
  readonly ports = new ChangeTable<ServicePort>();
  readonly backends = new ChangeTable<Backend>();
  readonly updates: Init<ServicesUpdate>[] = [];
  readonly realized = new Map<number, Map<string, string>>();
  refuse: (update: Init<ServicesUpdate>) => Init<ServicesUpdateResponse> = () => ({});
  dirty = 0;
  readonly reconciler: ServiceReconciler;

  constructor(zone = "") {
    this.reconciler = new ServiceReconciler({
      source: {
        servicePorts: (l) => this.ports.mirror(l),
        backends: (l) => this.backends.mirror(l),
      },
      datapath: { updateServices: (update) => this.#update(update) },
      place: { nodeName: "node-1", zone, labels: [] },
      onDirty: () => this.dirty++,
      datapathPeer: new Peer({ name: "datapath", clock: this.clock, effect: () => "" }),
      clock: this.clock,
    });
  }

  service(id: number, init: Init<ServicePort> = {}) {
    const frontends = [{ kind: "CLUSTER_IP" as const, address: `10.96.0.${id % 250}`, port: id }];
    this.ports.put(`${id}`, ServicePort.create({ id, protocol: "TCP", frontends, ...init }));
  }
  backend(service: number, address: string, init: Init<Backend> = {}) {
    this.backends.put(
      `${service}/${address}/80`,
      Backend.create({ service, address, port: 80, state: "ACTIVE", weight: 1, ...init }),
    );
  }
  async run(): Promise<Init<ServicesUpdate>[]> {
    await Promise.resolve();
    await this.reconciler.reconcile();
    return this.updates.splice(0);
  }

  // deno-lint-ignore require-await
  async #update(update: Init<ServicesUpdate>) {
    const response = ServicesUpdateResponse.create(this.refuse(update));
    this.updates.push(update);
    if (update.replace) {
      const named = new Set(update.services!.map((s) => s.id!));
      for (const id of [...this.realized.keys()]) if (!named.has(id)) this.realized.delete(id);
      for (const id of named) this.realized.set(id, new Map());
    }
    for (const id of update.deletedServices ?? []) this.realized.delete(id);
    for (const { id } of update.services ?? []) {
      if (!this.realized.has(id!)) this.realized.set(id!, new Map());
    }
    for (const b of update.backends ?? []) {
      this.realized.get(b.service!)!.set(`${b.address}/${b.port}`, `${b.state} ${b.internal} ${b.external}`);
    }
    for (const b of update.deletedBackends ?? []) {
      assert.ok(this.realized.get(b.service!)!.delete(`${b.address}/${b.port}`), "deletes what there is");
    }
    return response;
  }
}

const sizes = (update: Init<ServicesUpdate>) => [
  update.services?.length,
  update.deletedServices?.length,
  update.backends?.length,
  update.deletedBackends?.length,
  update.replace,
];

Deno.test("ServiceReconciler begins with one update that replaces, and after it sends one object per changed backend", async () => {
  const bench = new Bench();
  for (let id = 1; id <= 20; id++) {
    bench.service(id);
    for (let i = 0; i < 5; i++) bench.backend(id, `10.0.${id}.${i}`);
  }
  assert.deepEqual((await bench.run()).map(sizes), [[20, 0, 100, 0, true]]);
  assert.equal(bench.reconciler.complete, true);
  for (const serving of [true, false]) {
    bench.backend(7, "10.0.7.1", { state: "TERMINATING", serving });
    assert.deepEqual((await bench.run()).map(sizes), [[0, 0, 1, 0, false]]);
  }
  bench.backends.delete("7/10.0.7.1/80");
  assert.deepEqual((await bench.run()).map(sizes), [[0, 0, 0, 1, false]]);
  bench.backend(7, "10.0.7.2");
  assert.deepEqual(await bench.run(), [], "nothing changed");
  bench.service(7, { affinityTimeoutS: 60 });
  assert.deepEqual((await bench.run()).map(sizes), [[1, 0, 0, 0, false]]);
  bench.ports.delete("7");
  assert.deepEqual((await bench.run()).map(sizes), [[0, 1, 0, 0, false]]);
  bench.backends.delete("7/10.0.7.2/80");
  assert.deepEqual(await bench.run(), [], "they went with the service");
});

Deno.test("ServiceReconciler sends nothing before both collections are in sync", async () => {
  const bench = new Bench();
  bench.backends.synced = false;
  bench.service(1);
  assert.deepEqual(await bench.run(), []);
  assert.equal(bench.dirty, 0);
  bench.backends.sync();
  assert.ok(bench.dirty > 0);
  assert.deepEqual((await bench.run()).map(sizes), [[1, 0, 0, 0, true]]);
});

Deno.test("ServiceReconciler keeps a backend that comes before its service for later", async () => {
  const bench = new Bench();
  await bench.run();
  bench.backend(3, "10.0.0.1");
  assert.deepEqual(await bench.run(), []);
  bench.service(3);
  assert.deepEqual((await bench.run()).map(sizes), [[1, 0, 1, 0, false]]);
});

Deno.test("ServiceReconciler looks at every backend of a service when hints come into force or a zone is given", async () => {
  const bench = new Bench("a");
  bench.service(1, { topologyHints: true });
  for (const i of [1, 2, 3]) {
    bench.backend(1, `10.0.0.${i}`, { hintZones: i === 1 ? ["a"] : i === 2 ? ["b"] : [] });
  }
  await bench.run();
  assert.equal(bench.realized.get(1)!.size, 3, "one has no hint: all serve");
  bench.backend(1, "10.0.0.3", { hintZones: ["b"] });
  assert.deepEqual((await bench.run()).map(sizes), [[0, 0, 0, 2, false]]);
  assert.deepEqual([...bench.realized.get(1)!.keys()], ["10.0.0.1/80"]);
  bench.reconciler.setPlace({ zone: "b", labels: [] });
  await bench.run();
  assert.deepEqual([...bench.realized.get(1)!.keys()], ["10.0.0.2/80", "10.0.0.3/80"]);
  bench.reconciler.setPlace({ zone: "c", labels: [] });
  await bench.run();
  assert.equal(bench.realized.get(1)!.size, 3, "a zone without backends is served by all");
});

Deno.test("ServiceReconciler splits many changes into updates, services that are gone first", async () => {
  const bench = new Bench();
  bench.service(9);
  await bench.run();
  for (let id = 10; id < 20; id++) {
    bench.service(id);
    for (let i = 0; i < UPDATE_OBJECTS_MAX / 4; i++) bench.backend(id, `10.${id}.${i >> 8}.${i & 255}`);
  }
  bench.ports.delete("9");
  const updates = await bench.run();
  assert.ok(updates.length >= 2 && updates.every((u) => u.backends!.length <= UPDATE_OBJECTS_MAX * 1.25));
  assert.deepEqual(updates[0].deletedServices, [9]);
  assert.equal(bench.realized.size, 10);
});

Deno.test("ServiceReconciler sends again what an update that failed held, and what changed meanwhile", async () => {
  const bench = new Bench();
  bench.service(1);
  await bench.run();
  bench.backend(1, "10.0.0.1");
  bench.refuse = () => {
    bench.backend(1, "10.0.0.2");
    throw new Error("away");
  };
  await assert.rejects(bench.run(), /away/);
  assert.equal(bench.reconciler.complete, false);
  bench.refuse = () => ({});
  // Whether the datapath has done it is not known.
  assert.deepEqual((await bench.run()).map(sizes), [[1, 0, 2, 0, true]]);
});

Deno.test("ServiceReconciler tells everything again when the datapath began anew in the middle of an update", async () => {
  const bench = new Bench();
  bench.service(1);
  await bench.run();
  bench.service(2);
  let first = true;
  bench.refuse = () => {
    if (first) bench.reconciler.forget();
    first = false;
    return {};
  };
  assert.deepEqual((await bench.run()).map(sizes), [[1, 0, 0, 0, false], [2, 0, 0, 0, true]]);
  assert.deepEqual([...bench.realized.keys()].sort(), [1, 2]);
});

Deno.test("ServiceReconciler keeps what the datapath could not realize as state, and gives it again as a whole", async () => {
  const bench = new Bench();
  bench.service(1);
  bench.service(2);
  bench.backend(2, "10.0.0.1");
  bench.refuse = ({ services }) =>
    services!.some((s) => s.id === 2)
      ? { failedServices: [2], errors: [{ error: "10.96.0.2:2/TCP belongs to service 1" }] }
      : {};
  await bench.run();
  assert.equal(bench.reconciler.failures, 1);
  assert.equal(bench.reconciler.get(2)!.status!.error!.error, "10.96.0.2:2/TCP belongs to service 1");
  assert.equal(bench.reconciler.get(1)!.status!.error, undefined);
  await assert.rejects(bench.reconciler.retryFailed(), /Cannot realize 1 services: 10.96.0.2:2/);
  assert.equal(bench.reconciler.get(2)!.status!.error!.attempts, 2);
  bench.refuse = () => ({});
  bench.updates.splice(0);
  await bench.reconciler.retryFailed();
  assert.deepEqual(bench.updates.splice(0).map(sizes), [[1, 0, 1, 0, false]]);
  assert.equal(bench.reconciler.failures, 0);
  assert.equal(bench.reconciler.get(2)!.status!.error, undefined);
});

Deno.test("ServiceReconciler: after any changes the datapath holds the view, whatever failed on the way", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    let state = seed;
    const random = (n: number) => (state = (state * 48271) % 2147483647) % n;
    const bench = new Bench("a");
    for (let step = 0; step < 60; step++) {
      const id = 1 + random(4), address = `10.0.0.${random(5)}`;
      const what = random(10);
      if (what < 2) bench.ports.delete(`${id}`);
      else if (what < 4) {
        bench.service(id, {
          topologyHints: random(2) === 0,
          externalTrafficPolicy: random(2) === 0 ? "LOCAL" : "CLUSTER",
          internalTrafficPolicy: random(3) === 0 ? "LOCAL" : "CLUSTER",
        });
      } else if (what < 6) bench.backends.delete(`${id}/${address}/80`);
      else if (what < 9) {
        bench.backend(id, address, {
          state: random(3) === 0 ? "TERMINATING" : "ACTIVE",
          node: `node-${random(3)}`,
          hintZones: random(3) === 0 ? [] : [["a", "b"][random(2)]],
        });
      } else if (random(3) === 0) bench.reconciler.forget();
      if (random(3) === 0) {
        bench.refuse = random(4) === 0
          ? () => {
            throw new Error("away");
          }
          : () => ({});
        await bench.run().catch(() => {});
      }
    }
    bench.refuse = () => ({});
    await bench.run();
    const incremental = new Map([...bench.realized].map(([id, rows]) => [id, [...rows].sort()]));
    bench.reconciler.forget();
    await bench.run();
    const whole = new Map([...bench.realized].map(([id, rows]) => [id, [...rows].sort()]));
    assert.deepEqual(incremental, whole, `seed ${seed}`);
    const listed = [...bench.reconciler.list()].map((s) => [s.id, s.status!.backends]);
    assert.deepEqual(
      new Map(listed as [number, number][]),
      new Map([...whole].map(([k, v]) => [k, v.length])),
    );
  }
});

Deno.test("ServiceReconciler keeps services that a load balancer has lost for a grace, but none under two numbers", async () => {
  const bench = new Bench();
  const cart = { namespace: "shop", service: "cart", portName: "http" };
  bench.service(1, cart);
  bench.service(2, { ...cart, service: "desk" });
  bench.backend(1, "10.0.0.1");
  await bench.run();
  bench.ports.lose();
  bench.backends.lose();
  assert.deepEqual(await bench.run(), []);
  assert.deepEqual([...bench.realized.keys()], [1, 2]);
  // A new database numbers anew: the service is the same.
  bench.service(7, cart);
  await bench.run();
  assert.deepEqual([...bench.realized.keys()], [2, 7]);
  await bench.clock.advance(60_000);
  await bench.run();
  assert.deepEqual([...bench.realized.keys()], [7]);
  assert.equal(bench.reconciler.complete, true);
});
