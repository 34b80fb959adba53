import assert from "node:assert/strict";
import { BACKEND_GONE, BACKEND_TERMINATING, FRONTEND_EXTERNAL, FRONTEND_SOURCE_RANGES } from "@weir/maps";
import { backend, backendsOf, clusterAddress, service, serviceTest, update } from "./service_testing.ts";

serviceTest("ServiceStore.apply() makes frontends lead to backends, and follows changes", (kernel) => {
  const store = kernel.store();
  const first = store.apply(update({ services: [service(1)], backends: backendsOf(1, 3) }));
  assert.deepEqual([first.services, first.frontends, first.backends, first.errors], [1, 1, 3, []]);
  const at = clusterAddress(1);
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
  store.apply(update({ deletedServices: [1] }));
  assert.equal(kernel.find(at, 80), undefined);
  assert.deepEqual([store.size, store.backends.size, store.frontends.size, store.selections.size], [
    0,
    0,
    0,
    0,
  ]);
  void [BACKEND_GONE, BACKEND_TERMINATING, FRONTEND_EXTERNAL, FRONTEND_SOURCE_RANGES];
});
