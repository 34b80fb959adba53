import assert from "node:assert/strict";
import {
  BACKEND_GONE,
  BACKEND_TERMINATING,
  FRONTEND_AFFINITY,
  FRONTEND_CLOSED,
  FRONTEND_DSR,
  FRONTEND_EXTERNAL,
  FRONTEND_NODE_PORT,
  FRONTEND_SOURCE_DENY,
  FRONTEND_SOURCE_RANGES,
  State,
} from "@weir/maps";
import { u32 } from "@weir/loader";
import { REST_MS } from "./backend_table.ts";
import { backend, backendsOf, clusterAddress, service, serviceTest, update } from "./testing.ts";

const at = clusterAddress(1);

serviceTest("ServiceStore.apply() makes frontends lead to backends, and follows changes", (kernel) => {
  const store = kernel.store();
  const first = store.apply(update({ services: [service(1)], backends: backendsOf(1, 3) }));
  assert.deepEqual([first.services, first.frontends, first.backends, first.errors], [1, 1, 3, []]);
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.0:8080", "10.1.0.1:8080", "10.1.0.2:8080"]);
  assert.equal(kernel.find(at, 80)!.frontend.service, 1);
  const added = store.apply(update({ backends: [backend(1, "10.1.0.9")] }));
  assert.equal(kernel.choices(at, 80).length, 4);
  console.log(`one backend more: ${added.mapWrites} writes, ${added.timeUs.toFixed(0)} us`);
  assert.equal(added.mapWrites, 2, "its record; entry and count in one batch");
  const gone = store.apply(update({ deletedBackends: [backend(1, "10.1.0.1")] }));
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.0:8080", "10.1.0.2:8080", "10.1.0.9:8080"]);
  console.log(`one backend less: ${gone.mapWrites} writes, ${gone.timeUs.toFixed(0)} us`);
  assert.equal(gone.mapWrites, 2, "entry and count in one batch; the record");
  const same = store.apply(update({ services: [service(1)], backends: [backend(1, "10.1.0.9")] }));
  assert.equal(same.mapWrites, 0, "what is there is not written");
  store.apply(update({ services: [service(2)], deletedServices: [1] }));
  assert.equal(kernel.find(at, 80), undefined);
  store.apply(update({ services: [service(1)], replace: true }));
  assert.equal(kernel.find(clusterAddress(2), 80), undefined);
  store.apply(update({ deletedServices: [1] }));
  assert.deepEqual([store.size, store.backends.size, store.frontends.size, store.selections.size], [
    0,
    0,
    0,
    0,
  ]);
});

serviceTest(
  "ServiceStore: known flows look at their frontend again after each change of frontends, and after a start",
  (kernel) => {
    const revision = () => State.decode(kernel.maps.state.lookup(u32(0))!).frontendsRevision;
    const store = kernel.store();
    let before = revision();
    const moves = (what: string, moved: boolean) => {
      assert.equal(revision() > before, moved, what);
      before = revision();
    };
    store.apply(update({ services: [service(1)], backends: backendsOf(1, 3) }));
    moves("a service", true);
    store.apply(update({ backends: [backend(1, "10.1.0.9")] }));
    moves("a backend", false);
    // Service 2 wants the port of service 1, waits, and has it when that goes.
    store.apply(
      update({ services: [{ ...service(2), frontends: service(1).frontends }], backends: backendsOf(2, 1) }),
    );
    assert.equal(kernel.find(at, 80)!.frontend.service, 1);
    before = revision();
    store.apply(update({ deletedServices: [1] }));
    assert.equal(kernel.find(at, 80)!.frontend.service, 2);
    moves("a port that passes to another service", true);
    store.apply(update({ deletedServices: [2] }));
    moves("a service that goes", true);
    kernel.store();
    moves("a start", true);
  },
);

serviceTest("ServiceStore.apply() grows a selection by a map of twice the size, seldom", (kernel) => {
  const store = kernel.store();
  store.apply(update({ services: [service(1)] }));
  assert.deepEqual(kernel.find(at, 80)!.frontend.selections, [0, 0], "nobody is there");
  const writes: number[] = [];
  for (let i = 0; i < 200; i++) {
    writes.push(store.apply(update({ backends: [backend(1, `10.1.0.${i}`)] })).mapWrites);
    assert.equal(kernel.choices(at, 80).length, i + 1);
  }
  assert.equal(
    writes.filter((count) => count > 2).length,
    9,
    "slot and frontend at first, then 2, 4, ... 256",
  );
  store.apply(update({ deletedBackends: backendsOf(1, 200) }));
  assert.deepEqual(kernel.choices(at, 80), []);
  assert.notEqual(kernel.find(at, 80)!.frontend.selections[0], 0, "the slot stays for who comes next");
});

serviceTest("ServiceStore: who terminates serves only when nobody else does; the others never", (kernel) => {
  const store = kernel.store();
  const state = (address: string, name: "ACTIVE" | "TERMINATING" | "QUARANTINED" | "MAINTENANCE") =>
    store.apply(update({ backends: [backend(1, address, { state: name })] }));
  store.apply(update({ services: [service(1)], backends: backendsOf(1, 4) }));
  state("10.1.0.0", "TERMINATING");
  state("10.1.0.1", "QUARANTINED");
  state("10.1.0.2", "MAINTENANCE");
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.3:8080"]);
  const terminating = kernel.find(at, 80)!.frontend.selections[0];
  state("10.1.0.3", "TERMINATING");
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.0:8080", "10.1.0.3:8080"]);
  assert.deepEqual(kernel.find(at, 80)!.backends[0].records.map((record) => record.state), [
    BACKEND_TERMINATING,
    BACKEND_TERMINATING,
  ]);
  store.apply(update({ deletedBackends: [backend(1, "10.1.0.0"), backend(1, "10.1.0.3")] }));
  assert.deepEqual(kernel.choices(at, 80), []);
  state("10.1.0.1", "ACTIVE");
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.1:8080"]);
  assert.equal(kernel.find(at, 80)!.frontend.selections[0], terminating, "one slot all along");
});

serviceTest("ServiceStore: weights are how often a backend is there", (kernel) => {
  const store = kernel.store();
  const weights = (a: number, b: number) =>
    store.apply(update({
      services: [service(1)],
      backends: [backend(1, "10.1.0.1", { weight: a }), backend(1, "10.1.0.2", { weight: b })],
    }));
  const counted = () => {
    const choices = kernel.choices(at, 80);
    return ["10.1.0.1:8080", "10.1.0.2:8080"].map((name) => choices.filter((each) => each === name).length);
  };
  weights(1, 3);
  assert.deepEqual(counted(), [1, 3]);
  weights(100, 50);
  assert.deepEqual(counted(), [2, 1]);
  weights(99, 100);
  assert.deepEqual(counted(), [99, 100]);
  assert.throws(() => weights(101, 1), /weight is 101, not 0 to 100/);
});

serviceTest("ServiceStore: scopes and families have backends of their own", (kernel) => {
  const store = kernel.store();
  store.apply(update({
    services: [service(1, {
      frontends: [
        { address: at, port: 80, closed: true },
        { address: "fd96::1", port: 80 },
        { address: "", port: 30080, external: true, nodePort: true },
      ],
    })],
    backends: [
      backend(1, "10.1.0.1"),
      backend(1, "10.1.0.2", { external: false }),
      backend(1, "fd00::7", { internal: false }),
    ],
  }));
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.1:8080", "10.1.0.2:8080"]);
  assert.deepEqual(kernel.choices("0.0.0.0", 30080, 0), ["10.1.0.1:8080", "10.1.0.2:8080"]);
  assert.deepEqual(kernel.choices("0.0.0.0", 30080, 1), ["10.1.0.1:8080"]);
  assert.deepEqual(kernel.choices("fd96::1", 80), []);
  assert.deepEqual(kernel.choices("::", 30080, 1), ["fd00::7:8080"]);
  assert.equal(kernel.find("0.0.0.0", 30080)!.frontend.flags, FRONTEND_EXTERNAL | FRONTEND_NODE_PORT);
  assert.equal(kernel.find(at, 0, 0)!.frontend.flags, FRONTEND_CLOSED);
  assert.equal(kernel.find("fd96::1", 0, 0), undefined);
  store.apply(update({ services: [service(1)] }));
  assert.deepEqual(kernel.choices(at, 80), ["10.1.0.1:8080", "10.1.0.2:8080"]);
  assert.equal(kernel.find("::", 30080), undefined);
  assert.equal(kernel.find(at, 0, 0), undefined);
  assert.deepEqual([store.selections.size, store.frontends.size], [1, 1]);
  assert.deepEqual(kernel.faults(), []);
});

serviceTest("ServiceStore: flags, affinity, seed and source ranges reach the frontend", (kernel) => {
  const store = kernel.store();
  const external = [
    { address: at, port: 80, external: true },
    { address: "", port: 30080, external: true, nodePort: true },
  ];
  store.apply(update({
    services: [service(1, {
      frontends: external,
      affinityTimeoutS: 300,
      seed: 99,
      forwarding: "DSR",
      sourceRanges: ["192.0.2.0/24", "2001:db8::/32"],
    })],
    backends: backendsOf(1, 2),
  }));
  const frontend = () => kernel.find(at, 80)!.frontend;
  assert.deepEqual([frontend().affinityTimeout, frontend().seed], [300, 99]);
  assert.equal(
    frontend().flags,
    FRONTEND_EXTERNAL | FRONTEND_AFFINITY | FRONTEND_DSR | FRONTEND_SOURCE_RANGES,
  );
  const nodePort = () => kernel.find("0.0.0.0", 30080)!.frontend.flags & ~(FRONTEND_AFFINITY | FRONTEND_DSR);
  assert.equal(nodePort(), FRONTEND_EXTERNAL | FRONTEND_NODE_PORT, "the ranges are the load balancer's");
  assert.equal(kernel.maps.sourceRanges.entries().length, 2);
  const turned = service(1, { frontends: external, sourceRanges: ["192.0.2.0/24"], sourceRangesDeny: true });
  store.apply(update({ services: [turned] }));
  assert.equal(frontend().flags, FRONTEND_EXTERNAL | FRONTEND_SOURCE_RANGES | FRONTEND_SOURCE_DENY);
  assert.equal(nodePort(), FRONTEND_EXTERNAL | FRONTEND_NODE_PORT);
  assert.equal(kernel.maps.sourceRanges.entries().length, 1);
  store.apply(update({ services: [service(1, { frontends: external })] }));
  assert.equal(frontend().flags, FRONTEND_EXTERNAL);
  assert.equal(kernel.maps.sourceRanges.entries().length, 0);
});

serviceTest(
  "ServiceStore: of two services that want one frontend the older has it, and the other is told",
  (kernel) => {
    const store = kernel.store();
    const both = (id: number) =>
      service(id, {
        frontends: [{ address: "10.96.9.9", port: 80 }, { address: clusterAddress(id), port: 80 }],
      });
    store.apply(update({ services: [both(1)], backends: backendsOf(1, 1) }));
    const { errors, failedServices } = store.apply(
      update({ services: [both(2)], backends: [backend(2, "10.2.0.2")] }),
    );
    assert.deepEqual(failedServices, [2]);
    assert.match(
      errors[0].error,
      /service default\/service-2:http \(id 2\): 10\.96\.9\.9 port 80 TCP is that of service default\/service-1:http \(id 1\)/,
    );
    assert.deepEqual(kernel.choices("10.96.9.9", 80), ["10.1.0.0:8080"]);
    assert.deepEqual(kernel.choices(clusterAddress(2), 80), ["10.2.0.2:8080"], "the rest of it is served");
    const given = store.apply(update({ services: [both(2), service(1)] }));
    assert.deepEqual(given.errors, []);
    assert.deepEqual(
      kernel.choices("10.96.9.9", 80),
      ["10.2.0.2:8080"],
      "given up by the older, in one update",
    );
    const taken = store.apply(update({ services: [both(1)] }));
    assert.match(
      taken.errors[0].error,
      /is that of service default\/service-2:http \(id 2\), which had it first/,
    );
    store.apply(update({ services: [service(2)] }));
    store.apply(update({ services: [both(2)] }));
    assert.deepEqual(kernel.choices("10.96.9.9", 80), ["10.1.0.0:8080"]);
    const { errors: left } = store.apply(update({ deletedServices: [1] }));
    assert.deepEqual(left, []);
    assert.deepEqual(kernel.choices("10.96.9.9", 80), ["10.2.0.2:8080"], "it was waiting for it");
  },
);

serviceTest(
  "ServiceStore: SCTP ports that differ and services that are unknown are refused by name",
  (kernel) => {
    const store = kernel.store();
    const sctp = service(1, {
      protocol: "SCTP",
      frontends: [{ address: at, port: 9999 }, { address: "", port: 30999, external: true, nodePort: true }],
    });
    const { errors } = store.apply(
      update({
        services: [sctp],
        backends: [backend(1, "10.1.0.1", { port: 9999 }), backend(1, "10.1.0.2")],
      }),
    );
    assert.match(errors[0].error, /not frontend port 30999, and no backend on port 8080 is used/);
    assert.deepEqual(kernel.choices(at, 9999, 0, 132), ["10.1.0.1:9999"]);
    assert.equal(kernel.find("0.0.0.0", 30999, 132), undefined);
    const unknown = update({ services: [service(2)], backends: [backend(3, "10.1.0.1")] });
    assert.throws(() => store.apply(unknown), /there is no service with id 3; nothing was changed/);
    assert.equal(kernel.find(clusterAddress(2), 80), undefined);
  },
);

serviceTest("BackendTable: an id that was given up rests, and comes back for the same backend", (kernel) => {
  const store = kernel.store();
  store.apply(update({ services: [service(1)], backends: backendsOf(1, 2) }));
  const idOf = (address: string) => {
    const { backends: [{ ids, records }] } = kernel.find(at, 80)!;
    return ids[records.findIndex((record) => record.address.slice(12).join(".") === address)];
  };
  const id = idOf("10.1.0.0");
  store.apply(update({ deletedBackends: [backend(1, "10.1.0.0")] }));
  const record = kernel.backend(id);
  assert.deepEqual(
    [record.state, record.portBe],
    [BACKEND_GONE, 8080],
    "who remembers it still sees whose it was",
  );
  store.apply(update({ backends: [backend(1, "10.1.0.5")] }));
  assert.notEqual(idOf("10.1.0.5"), id);
  store.apply(update({ backends: [backend(1, "10.1.0.0")] }));
  assert.equal(idOf("10.1.0.0"), id);
  store.apply(update({ deletedBackends: [backend(1, "10.1.0.0")] }));
  kernel.nowMs += REST_MS;
  store.tick();
  assert.deepEqual([store.backends.resting, store.backends.size], [0, 2]);
});
