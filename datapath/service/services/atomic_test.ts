import assert from "node:assert/strict";
import { type BpfMap, BpfObject, Gate, StructuralVerifier, u32 } from "@weir/loader";
import { compileBpf } from "../../loader/testing.ts";
import type { BackendState } from "@weir/proto/loadbalancer";
import { backend, backendsOf, service, type ServiceKernel, serviceTest, update } from "./testing.ts";

const COUNTS = ["chosen", "nobody", "cleared", "gone", "stranger"];
const CHANGES = 1000;

/** The program on the maps of a test. */
function loadLoop(kernel: ServiceKernel): BpfObject {
  const object = BpfObject.open(compileBpf(new URL("testdata/select_loop.c", import.meta.url)), {
    name: "select",
  });
  const shared: Record<string, BpfMap> = {
    weir_frontends: kernel.maps.frontends,
    weir_backends: kernel.maps.backends,
    weir_selections: kernel.maps.selections,
    weir_service_counters: kernel.maps.counters,
  };
  for (const slot of object.maps) {
    const map = shared[slot.name];
    if (map !== undefined) assert.ok(slot.reuse(map.fd), slot.name);
    else if (
      ["weir_ct", "weir_nat", "weir_policies", "weir_ipcache", "weir_ipcache_exact"].includes(slot.name)
    ) {
      slot.setEntriesMax(16);
    }
  }
  object.load(new Gate(new StructuralVerifier()));
  return object;
}

function counted(map: BpfMap): Record<string, number> {
  return Object.fromEntries(
    COUNTS.map((name, i) => [name, Number(new DataView(map.lookup(u32(i))!.buffer).getBigUint64(0, true))]),
  );
}

serviceTest(
  "During 1,000 changes every selection by the programs' own code finds a backend",
  async (kernel) => {
    const store = kernel.store();
    const services = [service(1), service(2, { algorithm: "MAGLEV", tableSize: 1021 })];
    store.apply(update({ services, backends: [...backendsOf(1, 5), ...backendsOf(2, 5)] }));
    using object = loadLoop(kernel);
    using counts = object.openMap("counts");
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(new URL("testdata/select_worker.ts", import.meta.url), { type: "module" });
    const next = () => new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
    try {
      const running = next();
      worker.postMessage({ fd: object.program("select_loop").fd, stop: stop.buffer });
      assert.equal(await running, "running");
      const before = counted(counts).chosen;
      const seeds = new Uint32Array(1);
      let seed = seeds[0] = Number(Deno.env.get("WEIR_SEED") ?? 1);
      const random = (below: number) => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % below;
      const present = [1, 2].map((id) => new Set(backendsOf(id, 5).map(({ address }) => address)));
      for (let change = 0; change < CHANGES; change++) {
        const id = 1 + random(2), mine = present[id - 1], address = `10.1.${random(4)}.${random(50)}`;
        const [first] = mine;
        const states: BackendState[] = ["ACTIVE", "TERMINATING", "ACTIVE", "ACTIVE"];
        // The first is active always, so that there is somebody.
        if (mine.has(address) && address !== first && mine.size > 3) {
          store.apply(update({ deletedBackends: [backend(id, address)] }));
          mine.delete(address);
        } else if (address !== first) {
          const weight = 1 + random(3);
          store.apply(update({ backends: [backend(id, address, { state: states[random(4)], weight })] }));
          mine.add(address);
        }
        if (random(50) === 0) {
          const gone = [...mine].slice(1 + random(mine.size));
          store.apply(update({ deletedBackends: gone.map((each) => backend(id, each)) }));
          gone.forEach((each) => mine.delete(each));
        }
        if (random(100) === 0) {
          const algorithm = random(2) === 0 ? "MAGLEV" as const : "RANDOM" as const;
          store.apply(
            update({ services: [service(id, { algorithm, tableSize: [251, 509, 1021][random(3)] })] }),
          );
        }
        if (change % 50 === 0) {
          kernel.nowMs += 10_000;
          store.tick();
        }
      }
      const after = counted(counts);
      const stopped = next();
      Atomics.store(stop, 0, 1);
      await stopped;
      console.log(
        `${CHANGES} changes (WEIR_SEED=${seeds[0]}), ${after.chosen - before} selections meanwhile: ${
          JSON.stringify(after)
        }`,
      );
      assert.ok(after.chosen - before > 10_000);
      assert.deepEqual({ ...after, chosen: 0 }, { chosen: 0, nobody: 0, cleared: 0, gone: 0, stranger: 0 });
      assert.deepEqual(kernel.faults(), []);
    } finally {
      Atomics.store(stop, 0, 1);
      worker.terminate();
    }
  },
);
