/**
 * Which backend clients keep, in the kernel: the programs write it, this takes out what nobody asks for any more. An LRU
 * would keep rows of services that are gone until it is full.
 * @module
 */
import type { BpfMap } from "@weir/loader";
import {
  Affinity,
  AffinityKey,
  Backend,
  BACKEND_GONE,
  type Bytes,
  Frontend,
  FRONTEND_AFFINITY,
} from "@weir/maps";

/** The maps that it takes. */
export interface AffinityMaps {
  affinity: BpfMap;
  frontends: BpfMap;
  backends: BpfMap;
}

/** A row that means something: its service has affinity and its backend is that service's. */
export interface AffinityRow {
  rawKey: Bytes;
  key: AffinityKey;
  value: Affinity;
  backend: Backend;
}

/** Rows that are in force, and keys of those that are not. */
export function readAffinity({ affinity, frontends, backends }: AffinityMaps): {
  rows: AffinityRow[];
  stale: Bytes[];
} {
  const entries = affinity.entries(), rows: AffinityRow[] = [], stale: Bytes[] = [];
  if (entries.length === 0) return { rows, stale };
  const services = servicesWithAffinity(frontends);
  const records = backends.packed();
  for (const [rawKey, rawValue] of entries) {
    const key = AffinityKey.decode(rawKey), value = Affinity.decode(rawValue);
    const backend = value.backend < records.count
      ? Backend.decode(records.values, value.backend * Backend.bytes)
      : undefined;
    const holds = backend !== undefined && backend.state !== BACKEND_GONE &&
      backend.service === key.service && services.has(key.service);
    if (holds) rows.push({ rawKey, key, value, backend });
    else stale.push(rawKey);
  }
  return { rows, stale };
}

/** Deletes the rows that are not in force. Repeatable. @returns how many */
export function sweepAffinity(maps: AffinityMaps): number {
  const { stale } = readAffinity(maps);
  maps.affinity.deleteBatch(stale);
  return stale.length;
}

function servicesWithAffinity(frontends: BpfMap): Set<number> {
  const { values, count } = frontends.packed(), services = new Set<number>();
  for (let i = 0; i < count; i++) {
    const { service, flags } = Frontend.decode(values, i * Frontend.bytes);
    if (flags & FRONTEND_AFFINITY) services.add(service);
  }
  return services;
}
