/** What tests of services share: the object's own maps without its programs, and what a packet would find in them. @module */
import { type BpfMap, BpfObject, createMap, u32 } from "@weir/loader";
import {
  Backend,
  BACKEND_GONE,
  type Bytes,
  Frontend,
  FrontendKey,
  SELECTION_COUNT,
  SELECTION_MAGLEV,
} from "@weir/maps";
import { DatapathBackend, DatapathService, ServicesUpdate } from "@weir/proto/datapath";
import type { Init } from "@weir/proto";
import { mapped, unmapped } from "../kernel/addresses.ts";
import type { ServiceMaps } from "../kernel/service_maps.ts";
import { ServiceStore } from "./store.ts";

const OBJECT = new URL("../../../.build/bpf/weir.o", import.meta.url);
const NAMES = {
  frontends: "weir_frontends",
  state: "weir_state",
  backends: "weir_backends",
  selections: "weir_selections",
  sourceRanges: "weir_source_ranges",
  counters: "weir_service_counters",
} as const;

/** Why such tests cannot run here. */
export function servicesSkipped(): string | undefined {
  if (Deno.uid() !== 0) return "not root";
  try {
    Deno.statSync(OBJECT);
    return undefined;
  } catch {
    return "the programs are not built";
  }
}

/** A test on maps of its own. @param sizes maps smaller than the object's */
export function serviceTest(
  name: string,
  run: (kernel: ServiceKernel) => void | Promise<void>,
  sizes: Partial<Record<keyof ServiceMaps, number>> = {},
): void {
  const skipped = servicesSkipped();
  if (skipped !== undefined) console.log(`SKIP ${name}: ${skipped}`);
  Deno.test({
    name,
    ignore: skipped !== undefined,
    fn: async () => {
      using kernel = ServiceKernel.create(sizes);
      await run(kernel);
    },
  });
}

/** What a frontend's key finds. */
export interface Found {
  frontend: Frontend;
  /** By scope: internal, external. */
  backends: { maglev: boolean; ids: number[]; records: Backend[] }[];
}

/** The maps, unpinned: the kernel drops them with the test. */
export class ServiceKernel implements Disposable {
  /** The time of stores. */
  nowMs = 1_000_000;
  readonly #stores: ServiceStore[] = [];

  private constructor(readonly maps: ServiceMaps) {}

  /** Maps of others, who close them. */
  static of(maps: ServiceMaps): ServiceKernel {
    const kernel = new ServiceKernel(maps);
    kernel.#owner = false;
    return kernel;
  }
  #owner = true;

  /** @param sizes maps smaller than the object's */
  static create(sizes: Partial<Record<keyof ServiceMaps, number>> = {}): ServiceKernel {
    using object = BpfObject.open(Deno.readFileSync(OBJECT) as Bytes, { name: "weir" });
    const make = (of: keyof ServiceMaps): BpfMap => {
      const slot = object.maps.find(({ name }) => name === NAMES[of])!;
      const { type, keySize, valueSize, flags, inner } = slot;
      const entriesMax = sizes[of] ?? slot.entriesMax;
      if (inner === undefined) {
        return createMap({ type, name: slot.name, keySize, valueSize, entriesMax, flags });
      }
      using template = createMap({ name: "template", ...inner });
      return createMap({
        type,
        name: slot.name,
        keySize,
        valueSize,
        entriesMax,
        flags,
        innerFd: template.fd,
      });
    };
    return new ServiceKernel({
      frontends: make("frontends"),
      state: make("state"),
      backends: make("backends"),
      selections: make("selections"),
      sourceRanges: make("sourceRanges"),
      counters: make("counters"),
    });
  }

  /** A process that starts: it knows only what the kernel has. */
  store(): ServiceStore {
    const store = new ServiceStore(this.maps, { nowMs: () => this.nowMs, monotonicMs: () => this.nowMs });
    this.#stores.push(store);
    return store;
  }

  /** What a packet would find, undefined when it is no frontend. */
  find(address: string, port: number, protocol = 6): Found | undefined {
    const key = FrontendKey.encode({ address: mapped(address), portBe: port, protocol });
    const value = this.maps.frontends.lookup(key);
    if (value === undefined) return undefined;
    const frontend = Frontend.decode(value);
    return { frontend, backends: frontend.selections.map((slot) => this.selection(slot)) };
  }

  /** The kernel's record of an id. */
  backend(id: number): Backend {
    return Backend.decode(this.maps.backends.lookup(u32(id))!);
  }

  /** The kernel's entries of a slot. */
  selection(slot: number): Found["backends"][0] {
    const inner = slot === 0 ? undefined : this.maps.selections.lookupInner(u32(slot));
    if (inner === undefined) return { maglev: false, ids: [], records: [] };
    using map = inner;
    const { values } = map.packed();
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length / 4);
    const ids = [...words.subarray(1, 1 + (words[0] & SELECTION_COUNT))];
    return {
      maglev: (words[0] & SELECTION_MAGLEV) !== 0,
      ids,
      records: ids.map((id) => this.backend(id)),
    };
  }

  /** "address:port" of the backends that a scope of a frontend leads to, sorted, each as often as it is there. */
  choices(address: string, port: number, scope: 0 | 1 = 0, protocol = 6): string[] {
    const found = this.find(address, port, protocol);
    return (found?.backends[scope].records ?? []).map((record) => backendName(record)).sort();
  }

  /** What no packet may ever meet, in words: an empty entry, a backend that is cleared, gone or another service's. */
  faults(): string[] {
    const faults: string[] = [];
    for (const [rawKey, rawValue] of this.maps.frontends.entries()) {
      const key = FrontendKey.decode(rawKey), frontend = Frontend.decode(rawValue);
      for (const slot of new Set(frontend.selections)) {
        for (const id of new Set(this.selection(slot).ids)) {
          const record = this.backend(id);
          const fine = id !== 0 && record.portBe !== 0 && record.state !== BACKEND_GONE &&
            record.service === frontend.service && record.protocol === key.protocol &&
            unmapped(record.address).includes(":") === unmapped(key.address).includes(":");
          if (!fine) faults.push(`${unmapped(key.address)} ${key.portBe}: slot ${slot} has id ${id}`);
        }
      }
    }
    return faults;
  }

  [Symbol.dispose](): void {
    for (const store of this.#stores) store[Symbol.dispose]();
    if (this.#owner) { for (const map of Object.values(this.maps)) map.close(); }
  }
}

/** "10.0.0.1:80". */
function backendName({ address, portBe }: Backend): string {
  return `${unmapped(address)}:${portBe}`;
}

/** A service with one cluster address. */
export function service(id: number, change: Init<DatapathService> = {}): DatapathService {
  return DatapathService.create({
    id,
    name: `default/service-${id}:http`,
    protocol: "TCP",
    algorithm: "RANDOM",
    frontends: [{ address: clusterAddress(id), port: 80 }],
    ...change,
  });
}

/** "10.96.x.y" of a number. */
export function clusterAddress(id: number): string {
  return `10.96.${id >> 8}.${id & 255}`;
}

/** An active backend for both scopes. */
export function backend(
  service: number,
  address: string,
  change: Init<DatapathBackend> = {},
): DatapathBackend {
  return DatapathBackend.create({
    service,
    address,
    port: 8080,
    state: "ACTIVE",
    internal: true,
    external: true,
    ...change,
  });
}

/** Backends 10.1.x.y of a service. */
export function backendsOf(id: number, count: number, change: Init<DatapathBackend> = {}): DatapathBackend[] {
  return Array.from({ length: count }, (_, i) => backend(id, `10.1.${i >> 8}.${i & 255}`, change));
}

/** An update. */
export function update(change: Init<ServicesUpdate>): ServicesUpdate {
  return ServicesUpdate.create(change);
}

/** A service as JSON, with an address and a NodePort. */
export const WEB = {
  id: 7,
  name: "default/web:http",
  protocol: "TCP",
  frontends: [
    { address: "10.96.0.10", port: 80, closed: true },
    { port: 30080, external: true, nodePort: true },
  ],
  algorithm: "MAGLEV",
  tableSize: 251,
  affinityTimeoutS: 10800,
  sourceRanges: ["192.0.2.0/24"],
};
/** Its backends: one here, one for the inside only, one that terminates. */
export const BACKENDS = [
  { service: 7, address: "10.44.0.10", port: 8080, state: "ACTIVE", internal: true, external: true },
  { service: 7, address: "10.44.9.11", port: 8080, state: "ACTIVE", internal: true },
  { service: 7, address: "10.44.9.12", port: 8080, state: "TERMINATING", internal: true, external: true },
];
