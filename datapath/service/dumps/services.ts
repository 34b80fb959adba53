/** Services in the kernel: frontends with their backends, backends, affinity, source ranges. @module */
import { protocolName } from "@weir/common";
import { openMapById } from "@weir/loader";
import {
  Backend,
  BACKEND_GONE,
  BACKENDS_MAX,
  Frontend,
  FRONTEND_AFFINITY,
  FRONTEND_CLOSED,
  FRONTEND_DSR,
  FRONTEND_EVERY_NODE,
  FRONTEND_EXTERNAL,
  FRONTEND_LOCAL,
  FRONTEND_NODE_PORT,
  FRONTEND_SOURCE_DENY,
  FRONTEND_SOURCE_RANGES,
  FrontendKey,
  SELECTION_COUNT,
  SELECTION_MAGLEV,
  SourceRange,
} from "@weir/maps";
import { unmapped } from "../kernel/addresses.ts";
import { readAffinity } from "../services/affinity_table.ts";
import type { Kernel } from "../kernel/kernel.ts";
import {
  type Dump,
  type DumpNames,
  endpointText,
  flagsText,
  jiffiesNow,
  type Row,
  secondsUntil,
} from "./dump.ts";

/** Names of backend states, by the kernel's number. */
const STATE_NAMES = ["gone", "active", "terminating", "quarantined", "maintenance"];
const FRONTEND_FLAGS: readonly [number, string][] = [
  [FRONTEND_EXTERNAL, "external"],
  [FRONTEND_NODE_PORT, "node-port"],
  [FRONTEND_EVERY_NODE, "every-node"],
  [FRONTEND_LOCAL, "local"],
  [FRONTEND_AFFINITY, "affinity"],
  [FRONTEND_SOURCE_RANGES, "source-ranges"],
  [FRONTEND_SOURCE_DENY, "source-deny"],
  [FRONTEND_DSR, "dsr"],
  [FRONTEND_CLOSED, "closed"],
];

interface Selection {
  maglev: boolean;
  /** Backend id -> how often it is there. */
  shares: Map<number, number>;
  entries: number;
}

/** A row per frontend and backend; a frontend without backends has one row. */
export function dumpServices(kernel: Kernel, names: DumpNames): Dump {
  const { frontends, backends, selections } = kernel.serviceMaps;
  const records = backends.packed().values;
  const mapIds = new Map<number, number>();
  const outer = selections.packed();
  const view = new DataView(outer.values.buffer, outer.values.byteOffset);
  const slots = new DataView(outer.keys.buffer, outer.keys.byteOffset);
  for (let i = 0; i < outer.count; i++) mapIds.set(slots.getUint32(i * 4, true), view.getUint32(i * 4, true));
  const read = new Map<number, Selection>();
  const selectionOf = (slot: number): Selection => {
    let selection = read.get(slot);
    if (selection === undefined) read.set(slot, selection = readSelection(mapIds.get(slot)));
    return selection;
  };
  const rows: Row[] = [];
  for (const [rawKey, rawValue] of frontends.entries()) {
    const key = FrontendKey.decode(rawKey), frontend = Frontend.decode(rawValue);
    const [internal, external] = frontend.selections.map(selectionOf);
    const common = {
      frontend: endpointText(key.address, key.portBe),
      protocol: key.protocol === 0 ? "ANY" : protocolName(key.protocol),
      service: names.service(frontend.service),
      serviceId: String(frontend.service),
      algorithm: frontend.flags & FRONTEND_CLOSED
        ? ""
        : internal.maglev || external.maglev
        ? "maglev"
        : "random",
      entries: String(Math.max(internal.entries, external.entries)),
      affinityS: frontend.flags & FRONTEND_AFFINITY ? String(frontend.affinityTimeout) : "",
      flags: flagsText(frontend.flags, FRONTEND_FLAGS),
    };
    const ids = new Set([...internal.shares.keys(), ...external.shares.keys()]);
    if (ids.size === 0) {
      rows.push({ ...common, backend: "", backendId: "", state: "", scope: "", weight: "" });
    }
    for (const id of ids) {
      const record = id < BACKENDS_MAX ? Backend.decode(records, id * Backend.bytes) : undefined;
      rows.push({
        ...common,
        backend: record === undefined ? "" : endpointText(record.address, record.portBe),
        backendId: String(id),
        state: record === undefined ? "" : STATE_NAMES[record.state] ?? String(record.state),
        scope: [internal.shares.has(id) ? "internal" : "", external.shares.has(id) ? "external" : ""]
          .filter((scope) => scope !== "").join(","),
        weight: String(internal.shares.get(id) ?? external.shares.get(id)),
      });
    }
  }
  return { rows: rows.sort(byFrontend), entriesMax: frontends.info.entriesMax };
}

/** Every backend's record, those that rest included. */
export function dumpBackends(kernel: Kernel, names: DumpNames): Dump {
  const { values, count } = kernel.serviceMaps.backends.packed();
  const rows: Row[] = [];
  for (let id = 1; id < count; id++) {
    const record = Backend.decode(values, id * Backend.bytes);
    if (record.portBe === 0) continue;
    rows.push({
      id: String(id),
      backend: endpointText(record.address, record.portBe),
      protocol: protocolName(record.protocol),
      state: record.state === BACKEND_GONE ? "resting" : STATE_NAMES[record.state] ?? String(record.state),
      service: names.service(record.service),
      serviceId: String(record.service),
    });
  }
  return { rows, entriesMax: count - 1 };
}

/** Which backend a client keeps, of services that are there. */
export function dumpAffinity(kernel: Kernel, names: DumpNames): Dump {
  const now = jiffiesNow(kernel), map = kernel.map("weir_affinity");
  const { rows: held } = readAffinity({ affinity: map, ...kernel.serviceMaps });
  const rows = held.map(({ key, value, backend }): Row => {
    const cookie = key.client.subarray(0, 8).every((byte) => byte === 0xff);
    return {
      client: cookie
        ? `netns ${new DataView(key.client.buffer).getBigUint64(8, true)}`
        : unmapped(key.client),
      service: names.service(key.service) || String(key.service),
      backendId: String(value.backend),
      backend: endpointText(backend.address, backend.portBe),
      usedS: secondsUntil(now, value.used, names.hz),
    };
  });
  return { rows, entriesMax: map.info.entriesMax };
}

/** Who may, or may not, use services from outside. */
export function dumpSourceRanges(kernel: Kernel, names: DumpNames): Dump {
  const map = kernel.serviceMaps.sourceRanges;
  const rows = map.entries().map(([rawKey]): Row => {
    const { prefixlen, service, address } = SourceRange.decode(rawKey);
    const text = unmapped(address);
    return {
      service: names.service(service) || String(service),
      prefix: `${text}/${text.includes(":") ? prefixlen - 32 : prefixlen - 128}`,
    };
  });
  return { rows, entriesMax: map.info.entriesMax };
}

function readSelection(mapId: number | undefined): Selection {
  const inner = mapId === undefined ? undefined : openMapById(mapId);
  if (inner === undefined) return { maglev: false, shares: new Map(), entries: 0 };
  using map = inner;
  const { values } = map.packed();
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length >>> 2);
  const entries = Math.min(words[0] & SELECTION_COUNT, words.length - 1), shares = new Map<number, number>();
  for (let i = 1; i <= entries; i++) shares.set(words[i], (shares.get(words[i]) ?? 0) + 1);
  return { maglev: (words[0] & SELECTION_MAGLEV) !== 0, shares, entries };
}

function byFrontend(a: Row, b: Row): number {
  const left = `${a.service} ${a.frontend} ${a.backend}`, right = `${b.service} ${b.frontend} ${b.backend}`;
  return left < right ? -1 : left > right ? 1 : 0;
}
