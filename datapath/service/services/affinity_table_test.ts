import assert from "node:assert/strict";
import { createMap, MapType } from "@weir/loader";
import { Affinity, AffinityKey, Backend, BACKEND_GONE } from "@weir/maps";
import { mapped } from "../kernel/addresses.ts";
import { readAffinity, sweepAffinity } from "./affinity_table.ts";
import { backendsOf, service, serviceTest, update } from "./testing.ts";

serviceTest("sweepAffinity() takes out who asks for nothing that is there, and nobody else", (kernel) => {
  using affinity = createMap({
    type: MapType.LRU_HASH,
    name: "weir_affinity",
    keySize: AffinityKey.bytes,
    valueSize: Affinity.bytes,
    entriesMax: 64,
  });
  const store = kernel.store();
  const sticky = (id: number) => service(id, { affinityTimeoutS: 60 });
  const apply = (...parts: Parameters<typeof update>) => store.apply(update(...parts));
  apply({ services: [1, 2, 3, 4].map(sticky), backends: [1, 2, 3, 4].flatMap((id) => backendsOf(id, 2)) });
  const ids = (id: number) =>
    kernel.maps.backends.entries().flatMap(([, value], at) => Backend.decode(value).service === id ? at : []);
  const keep = (id: number, client: string, backend: number) =>
    affinity.update(
      AffinityKey.encode({ client: mapped(client), service: id }),
      Affinity.encode({ backend, used: 1 }),
    );
  for (const id of [1, 2, 3, 4]) keep(id, `192.0.2.${id}`, ids(id)[0]);
  keep(1, "192.0.2.9", ids(2)[0]); // an id that rested and came back as somebody else's
  keep(1, "192.0.2.10", 131_000); // never was one
  keep(77, "192.0.2.77", ids(1)[0]); // a service that a process before had
  const maps = { affinity, ...kernel.maps };
  const clients = () => readAffinity(maps).rows.map(({ key }) => key.service).sort();
  assert.deepEqual(clients(), [1, 2, 3, 4], "what is not in force is no row");
  assert.equal(sweepAffinity(maps), 3);
  assert.equal(affinity.entries().length, 4);
  assert.equal(store.affinitiesEnded, 0);
  apply({ deletedServices: [2] });
  apply({ services: [service(3)], backends: backendsOf(3, 2) });
  assert.equal(store.affinitiesEnded, 2, "a service that went, and one that wants it no more");
  const [gone] = ids(4);
  apply({ services: [sticky(4)], deletedBackends: backendsOf(4, 2) });
  assert.equal(kernel.backend(gone).state, BACKEND_GONE);
  assert.equal(sweepAffinity(maps), 3);
  assert.deepEqual(clients(), [1]);
  assert.deepEqual(affinity.entries().map(([key]) => AffinityKey.decode(key).service), [1]);
  assert.equal(sweepAffinity(maps), 0);
}, { backends: 64 });
