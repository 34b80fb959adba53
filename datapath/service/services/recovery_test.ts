import assert from "node:assert/strict";
import type { ServicesUpdate } from "@weir/proto/datapath";
import { FRONTEND_EXTERNAL } from "@weir/maps";
import { REST_MS } from "./backend_table.ts";
import {
  backend,
  backendsOf,
  clusterAddress,
  service,
  ServiceKernel,
  serviceTest,
  update,
} from "./testing.ts";

const external = (id: number) => [
  { address: clusterAddress(id), port: 80, closed: true },
  { address: "", port: 30000 + id, external: true, nodePort: true },
];

/** What is there before, what is asked for then, and all of what is desired after it. */
const CASES: Record<string, { before: ServicesUpdate; change: ServicesUpdate; after: ServicesUpdate }> = {
  "a service comes": {
    before: update({ services: [service(1)], backends: backendsOf(1, 3) }),
    change: update({
      services: [service(2, { frontends: external(2), sourceRanges: ["192.0.2.0/24"] })],
      backends: backendsOf(2, 5),
    }),
    after: update({
      services: [service(1), service(2, { frontends: external(2), sourceRanges: ["192.0.2.0/24"] })],
      backends: [...backendsOf(1, 3), ...backendsOf(2, 5)],
    }),
  },
  "a service goes": {
    before: update({
      services: [service(1), service(2, { frontends: external(2), sourceRanges: ["192.0.2.0/24"] })],
      backends: [...backendsOf(1, 3), ...backendsOf(2, 5)],
    }),
    change: update({ deletedServices: [2] }),
    after: update({ services: [service(1)], backends: backendsOf(1, 3) }),
  },
  "backends come and go, and scopes part": {
    before: update({ services: [service(1, { frontends: external(1) })], backends: backendsOf(1, 4) }),
    change: update({
      backends: [...backendsOf(1, 2, { external: false }), backend(1, "10.1.9.9", { weight: 3 })],
      deletedBackends: [backend(1, "10.1.0.3")],
    }),
    after: update({
      services: [service(1, { frontends: external(1) })],
      backends: [
        ...backendsOf(1, 2, { external: false }),
        backend(1, "10.1.0.2"),
        backend(1, "10.1.9.9", { weight: 3 }),
      ],
    }),
  },
  "random becomes Maglev, and a backend goes": {
    before: update({ services: [service(1)], backends: backendsOf(1, 8) }),
    change: update({
      services: [service(1, { algorithm: "MAGLEV", tableSize: 251 })],
      deletedBackends: [backend(1, "10.1.0.3")],
    }),
    after: update({
      services: [service(1, { algorithm: "MAGLEV", tableSize: 251 })],
      backends: backendsOf(1, 8).filter(({ address }) => address !== "10.1.0.3"),
    }),
  },
  "one of a Maglev table's backends is another": {
    before: update({
      services: [service(1, { algorithm: "MAGLEV", tableSize: 1021 })],
      backends: backendsOf(1, 5),
    }),
    change: update({ backends: [backend(1, "10.1.7.7")], deletedBackends: [backend(1, "10.1.0.0")] }),
    after: update({
      services: [service(1, { algorithm: "MAGLEV", tableSize: 1021 })],
      backends: [...backendsOf(1, 5).slice(1), backend(1, "10.1.7.7")],
    }),
  },
};

/** Everything that counts, whatever the numbers of slots and ids. */
function picture(kernel: ServiceKernel): unknown {
  const all: Record<string, unknown> = {};
  for (const [address, port, protocol] of PROBES) {
    const found = kernel.find(address, port, protocol);
    all[`${address} ${port}`] = found && {
      flags: found.frontend.flags,
      maglev: found.backends.map(({ maglev }) => maglev),
      choices: [kernel.choices(address, port, 0, protocol), kernel.choices(address, port, 1, protocol)],
    };
  }
  const { frontends, sourceRanges } = kernel.maps;
  return { ...all, frontends: frontends.entries().length, ranges: sourceRanges.entries().length };
}
const PROBES: [string, number, number][] = [1, 2].flatMap((id): [string, number, number][] => [
  [clusterAddress(id), 80, 6],
  [clusterAddress(id), 0, 0],
  ["0.0.0.0", 30000 + id, 6],
]);

for (const [name, { before, change, after }] of Object.entries(CASES)) {
  serviceTest(`ServiceStore: killed at any write, the next one repairs it: ${name}`, (kernel) => {
    const clean = kernel.store();
    clean.apply(before);
    const { mapWrites } = clean.apply(change);
    const wanted = picture(kernel), used = [clean.selections.size, clean.backends.size];
    let faults = 0;
    for (let writes = 0;; writes++) {
      using killed = ServiceKernel.create();
      const store = killed.store();
      store.apply(before);
      store.writes.failAfter = writes;
      try {
        store.apply(change);
        break;
      } catch (error) {
        assert.match((error as Error).message, /fault point/);
        faults++;
      }
      assert.deepEqual(killed.faults(), [], `after ${writes} writes every packet finds a whole choice`);
      const next = killed.store();
      next.apply({ ...after, replace: true });
      assert.deepEqual(picture(killed), wanted, `after ${writes} writes`);
      assert.deepEqual([next.selections.size, next.backends.size], used, "nothing was lost");
      // The one that failed does the same when it goes on.
      store.writes.failAfter = undefined;
      store.tick();
      store.apply(update({}));
      assert.deepEqual(picture(killed), wanted);
    }
    assert.ok(faults >= 3 && faults <= mapWrites, `${faults} of ${mapWrites} writes failed`);
    console.log(`${name}: killed at each of ${faults} places`);
  });
}

serviceTest(
  "ServiceStore takes over what is there and writes nothing; the rest goes when it is swept",
  (kernel) => {
    const services = [service(1), service(2, { algorithm: "MAGLEV" }), service(3)];
    const backends = [1, 2, 3].flatMap((id) => backendsOf(id, 10));
    kernel.store().apply(update({ services, backends }));
    const ids = () => kernel.find(clusterAddress(1), 80)!.backends[0].ids;
    const before = ids();
    const next = kernel.store();
    assert.deepEqual(next.leftovers().sort(), [1, 2, 3]);
    const { mapWrites } = next.apply(
      update({ services: services.slice(0, 2), backends: backends.filter((each) => each.service !== 3) }),
    );
    assert.equal(mapWrites, 0);
    assert.deepEqual(ids(), before, "a backend keeps its id");
    assert.equal(next.adopted, 2);
    assert.equal(kernel.choices(clusterAddress(3), 80).length, 10, "nobody asked for it, and it serves");
    assert.equal(next.sweep(), 1);
    assert.equal(kernel.find(clusterAddress(3), 80), undefined);
    assert.deepEqual([next.leftovers(), next.selections.size, next.backends.size], [[], 2, 20]);
    const third = kernel.store();
    assert.equal(
      third.backends.resting,
      10,
      "who remembers one of these ids is not led astray by the next process either",
    );
    third.apply(update({ services: [service(1)], backends: backendsOf(1, 10), replace: true }));
    assert.deepEqual([third.leftovers(), third.backends.size, kernel.find(clusterAddress(2), 80)], [
      [],
      10,
      undefined,
    ]);
  },
);

for (const lost of ["frontends", "backends", "selections", "sourceRanges"] as const) {
  serviceTest(
    `ServiceStore makes everything anew when the map of ${lost} was lost to another layout`,
    (kernel) => {
      const all = update({
        services: [
          service(1),
          service(2, { frontends: external(2), sourceRanges: ["192.0.2.0/24"] }),
          service(3),
        ],
        backends: [1, 2, 3].flatMap((id) => backendsOf(id, 4)),
      });
      kernel.store().apply(all);
      const wanted = picture(kernel);
      using other = ServiceKernel.create();
      const maps = { ...kernel.maps, [lost]: other.maps[lost] };
      using mixed = ServiceKernel.of(maps);
      const store = mixed.store();
      // One service after another: none may lead to what has become another's.
      for (const given of [...all.services].reverse()) {
        store.apply(update({ services: [given], backends: backendsOf(given.id, 4) }));
        assert.deepEqual(mixed.faults(), [], given.name);
      }
      assert.deepEqual(picture(mixed), wanted);
      assert.deepEqual([store.backends.size, store.selections.size], [12, 3]);
    },
  );
}

serviceTest(
  "ServiceStore: what does not fit is named, nothing of it is written, and it is tried again",
  (kernel) => {
    const store = kernel.store();
    const one = store.apply(update({ services: [service(1)], backends: backendsOf(1, 8) }));
    assert.deepEqual(one.errors, []);
    const full = store.apply(update({ services: [service(2)], backends: backendsOf(2, 8) }));
    assert.deepEqual(full.failedServices, [2]);
    assert.match(
      full.errors[0].error,
      /service-2.*8 more backends are wanted .* but 8 of 15 ids are taken and 0 rest/,
    );
    assert.equal(kernel.find(clusterAddress(2), 80), undefined);
    assert.equal(full.backends, 8);
    const more = store.apply(
      update({ backends: backendsOf(1, 20).slice(7), deletedBackends: [backend(1, "10.1.0.0")] }),
    );
    assert.deepEqual(more.failedServices.toSorted(), [1, 2]);
    assert.equal(kernel.choices(clusterAddress(1), 80).length, 7, "who goes goes, who comes waits");
    store.apply(update({ deletedBackends: backendsOf(1, 20).slice(8) }));
    const frontends = Array.from({ length: 9 }, (_, i) => ({ address: `10.97.0.${i}`, port: 1 }));
    const wide = store.apply(update({ services: [service(3, { frontends })], deletedServices: [2] }));
    assert.match(
      wide.errors[0].error,
      /9 more frontends are wanted \(10\.97\.0\.0 port 1 TCP\), but 1 of 8 are taken/,
    );
    assert.equal(kernel.find("10.97.0.0", 1), undefined);
    const ranged = service(4, {
      frontends: [{ address: clusterAddress(4), port: 80, external: true }],
      sourceRanges: ["192.0.2.0/26", "192.0.2.64/26", "198.51.100.0/24"],
    });
    const ranges = store.apply(update({ services: [ranged], deletedServices: [3] }));
    assert.match(
      ranges.errors[0].error,
      /3 more source ranges are wanted, but 0 of 2 are taken: nobody from outside/,
    );
    assert.equal(kernel.find(clusterAddress(4), 80)!.frontend.flags & FRONTEND_EXTERNAL, 0);
    const fits = store.apply(update({ services: [{ ...ranged, sourceRanges: ["192.0.2.0/24"] }] }));
    assert.deepEqual(fits.errors, []);
    const selections = store.apply(
      update({
        services: [5, 6, 7].map((id) => service(id)),
        backends: [5, 6, 7].map((id) => backend(id, "10.5.0.1")),
      }),
    );
    assert.match(selections.errors[0].error, /a service takes up to 4 selections, but \d of 5 are taken/);
    assert.ok(kernel.faults().length === 0);
    kernel.nowMs += REST_MS;
    store.tick();
    store.apply(update({ deletedServices: [5, 6, 7, 1] }));
    kernel.nowMs += REST_MS;
    store.tick();
    assert.deepEqual(store.errors(), []);
    const again = store.apply(update({ services: [service(2)], backends: backendsOf(2, 8) }));
    assert.deepEqual(again.errors, []);
    assert.equal(kernel.choices(clusterAddress(2), 80).length, 8);
  },
  { frontends: 8, backends: 16, selections: 6, sourceRanges: 2 },
);
