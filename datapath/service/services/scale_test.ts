import assert from "node:assert/strict";
import type { DatapathBackend, DatapathService } from "@weir/proto/datapath";
import { ServiceReport } from "../reports/services.ts";
import { backend, backendsOf, clusterAddress, service, serviceTest, update } from "./testing.ts";

/** How often each of the kernel's entries is there. */
function counts(ids: readonly number[]): Map<number, number> {
  const held = new Map<number, number>();
  for (const id of ids) held.set(id, (held.get(id) ?? 0) + 1);
  return held;
}

serviceTest(
  "Maglev in the kernel's map: 100 backends within 2 % of even, and 1.1/N moves when one goes",
  (kernel) => {
    const store = kernel.store(), at = clusterAddress(1), count = 100;
    for (const [tableSize, most] of [[16381, 2.5], [131071, 1.1]]) {
      store.apply(update({
        services: [service(1, { algorithm: "MAGLEV", tableSize })],
        backends: backendsOf(1, count),
      }));
      const before = kernel.find(at, 80)!.backends[0];
      assert.ok(before.maglev);
      assert.equal(before.ids.length, tableSize);
      const held = [...counts(before.ids).values()], even = tableSize / count;
      assert.equal(held.length, count);
      assert.ok(
        Math.max(...held) <= Math.max(even * 1.02, even + 1) &&
          Math.min(...held) >= Math.min(even * 0.98, even - 1),
      );
      const gone = before.ids[5], address = kernel.backend(gone).address.slice(12).join(".");
      const { mapWrites, timeUs } = store.apply(update({ deletedBackends: [backend(1, address)] }));
      const after = kernel.find(at, 80)!.backends[0];
      const moved = after.ids.filter((id, place) => id !== before.ids[place]).length;
      assert.ok(!after.ids.includes(gone));
      assert.ok(moved / tableSize * count <= most, `${moved} of ${tableSize}`);
      assert.equal(mapWrites, 2, "every entry that differs in one batch, and the record");
      console.log(
        `${tableSize} places, ${count} backends: ${Math.min(...held)}..${Math.max(...held)} each (even: ${
          even.toFixed(1)
        }), ` +
          `${(moved / tableSize * count).toFixed(3)}/N moved, ${mapWrites} writes, ${
            (timeUs / 1000).toFixed(1)
          } ms`,
      );
    }
    assert.deepEqual(kernel.faults(), []);
  },
);

serviceTest("A service with 5,000 backends is served by all of them, at random and by Maglev", (kernel) => {
  const store = kernel.store(), at = clusterAddress(1);
  for (const algorithm of ["RANDOM", "MAGLEV"] as const) {
    const { errors, timeUs } = store.apply(
      update({ services: [service(1, { algorithm })], backends: backendsOf(1, 5000) }),
    );
    assert.deepEqual(errors, []);
    assert.equal(counts(kernel.find(at, 80)!.backends[0].ids).size, 5000);
    const one = store.apply(update({ deletedBackends: [backend(1, "10.1.7.7")] }));
    assert.equal(one.mapWrites, 2);
    console.log(
      `5000 backends, ${algorithm}: ${(timeUs / 1000).toFixed(0)} ms; one less: ${
        (one.timeUs / 1000).toFixed(1)
      } ms`,
    );
  }
  const { errors } = store.apply(update({ services: [service(1, { algorithm: "MAGLEV", tableSize: 251 })] }));
  assert.match(errors[0].error, /a Maglev table of 251 has no entry for 4748 of 4999 backends/);
});

serviceTest(
  "50,000 backends in 10,000 services load within seconds; one change stays a handful of writes",
  (kernel) => {
    const services: DatapathService[] = [], backends: DatapathBackend[] = [];
    for (let id = 1; id <= 10_000; id++) {
      services.push(service(id, { frontends: [{ address: clusterAddress(id), port: 80, closed: true }] }));
      for (let i = 0; i < 5; i++) {
        backends.push(
          backend(id, `10.${100 + (id >> 12)}.${(id >> 4) & 255}.${(id & 15) * 16 + i}`),
        );
      }
    }
    const store = kernel.store();
    const heapBefore = Deno.memoryUsage().heapUsed;
    const loaded = store.apply(update({ services, backends, replace: true }));
    assert.deepEqual([loaded.services, loaded.frontends, loaded.backends], [10_000, 20_000, 50_000]);
    assert.deepEqual(loaded.errors, []);
    const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    const pressure = new ServiceReport(store, kernel.maps).pressure();
    console.log(
      `loaded in ${(loaded.timeUs / 1000).toFixed(0)} ms, ${loaded.mapWrites} writes; heap ${
        megabytes(Deno.memoryUsage().heapUsed - heapBefore)
      }; kernel: ${pressure.map(({ map, bytes }) => `${map} ${megabytes(bytes)}`).join(", ")}`,
    );
    const times: number[] = [];
    for (let i = 0; i < 20; i++) {
      const id = 5000 + i;
      const { mapWrites, timeUs } = store.apply(update({
        backends: [backend(id, "10.200.0.1")],
        deletedBackends: [backends[(id - 1) * 5]],
      }));
      assert.equal(mapWrites, 3, "the new record, the entry, the old record");
      times.push(timeUs);
    }
    times.sort((a, b) => a - b);
    console.log(
      `one backend for another: 3 writes, median ${times[10].toFixed(0)} us, worst ${
        times[19].toFixed(0)
      } us`,
    );
    const started = performance.now();
    const next = kernel.store();
    const read = performance.now();
    const again = next.apply(update({
      services: services.slice(0, 4999),
      backends: backends.slice(0, 4999 * 5),
    }));
    assert.equal(again.mapWrites, 0);
    console.log(
      `the next process: kernel read in ${(read - started).toFixed(0)} ms, half of it taken over in ${
        (again.timeUs / 1000).toFixed(0)
      } ms without a write`,
    );
    const sweeping = performance.now();
    assert.equal(next.sweep(), 5001);
    console.log(`the other half swept in ${(performance.now() - sweeping).toFixed(0)} ms`);
    assert.deepEqual([next.frontends.size, next.backends.size], [9998, 24_995]);
  },
);
