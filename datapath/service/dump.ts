/** What the kernel's maps hold now, in words. @module */
import { protocolName } from "@weir/common";
import { ProblemError } from "@weir/common";
import {
  ADDRESS_HOST,
  CT_CLOSING_FORWARD,
  CT_CLOSING_REVERSE,
  CT_LOOPBACK,
  CT_ORIGIN_HI,
  CT_REPLY_NAT,
  CT_SEEN_REPLY,
  CT_SERVICE,
  CT_TUNNEL,
  ENDPOINT_CGROUP,
  POLICY_ENTRY_DENY,
  PolicyEntry,
  PolicyKey,
  SHAPE_ANY_PROTOCOL,
  SHAPE_EGRESS,
  SHAPE_LENGTH,
} from "@weir/maps";
import { formatMac } from "@weir/net";
import { u32 } from "@weir/loader";
import type { MapDump } from "@weir/proto/datapath";
import { DropReasonNumber } from "@weir/proto/flow";
import { unmapped } from "./addresses.ts";
import type { Kernel } from "./kernel.ts";
import { dumpAffinity, dumpBackends, dumpNat, dumpServices, dumpSourceRanges } from "./service_dump.ts";

/** Rows of one dump at most; the count of entries tells the rest. */
export const DUMP_ROWS_MAX = 100_000;

/** Names for what the maps have numbers for. */
export interface DumpNames {
  endpoint: (id: number) => string;
  policy: (slot: number) => string;
  service: (id: number) => string;
  /** Jiffies per second. */
  hz: number;
}

/** Column -> value. */
export type Row = Record<string, string>;
/** The rows of a map, and how many it could have. */
export interface Dump {
  rows: Row[];
  entriesMax: number;
}

const DUMPS: Record<string, (kernel: Kernel, names: DumpNames) => Dump> = {
  endpoint: dumpEndpoints,
  policy: dumpPolicies,
  ct: dumpConntrack,
  ipcache: dumpIpcache,
  metrics: dumpMetrics,
  address: dumpAddresses,
  lb: dumpServices,
  backend: dumpBackends,
  nat: dumpNat,
  affinity: dumpAffinity,
  source_ranges: dumpSourceRanges,
};

/** Names of the dumps. */
export const DUMP_NAMES: readonly string[] = Object.keys(DUMPS);

/** One dump. @throws {ProblemError} MAP_UNKNOWN */
export function dumpMap(kernel: Kernel, name: string, names: DumpNames): MapDump {
  const dump = Object.hasOwn(DUMPS, name) ? DUMPS[name] : undefined;
  if (dump === undefined) {
    throw new ProblemError("MAP_UNKNOWN", {
      status: 404,
      detail: `Cannot dump map ${JSON.stringify(name)}: there is no such map`,
      found: name,
      expected: DUMP_NAMES.join(", "),
    });
  }
  const { rows, entriesMax } = dump(kernel, names);
  return {
    map: name,
    entries: rows.length,
    entriesMax,
    rows: rows.slice(0, DUMP_ROWS_MAX).map((fields) => ({ fields })),
  };
}

function dumpEndpoints(kernel: Kernel, names: DumpNames): Dump {
  const rows = kernel.endpoints.entries()
    .filter(([id, e]) => id !== 0 && (e.ifindex !== 0 || e.cgroupId !== 0n))
    .map(([id, e]) => {
      const counters = kernel.counters.getPerCpu(id);
      const sum = (field: keyof typeof counters[0]) =>
        String(counters.reduce((all, cpu) => all + cpu[field], 0n));
      return {
        id: String(id),
        name: names.endpoint(id),
        ifindex: String(e.ifindex),
        identity: String(e.identity),
        policy: names.policy(e.policy),
        slot: String(e.policy),
        revision: String(e.revision),
        ipv4: e.ipv4Be === 0 ? "" : ipv4Text(e.ipv4Be),
        ipv6: isZero(e.ipv6) ? "" : unmapped(e.ipv6),
        mac: formatMac(e.mac),
        hostMac: formatMac(e.hostMac),
        cgroup: e.flags & ENDPOINT_CGROUP ? String(e.cgroupId) : "",
        txPackets: sum("txPackets"),
        txBytes: sum("txBytes"),
        rxPackets: sum("rxPackets"),
        rxBytes: sum("rxBytes"),
        droppedPackets: sum("droppedPackets"),
        droppedBytes: sum("droppedBytes"),
      };
    });
  return { rows, entriesMax: kernel.endpoints.entriesMax };
}

function dumpPolicies(kernel: Kernel, names: DumpNames): Dump {
  const outer = kernel.map("weir_policies");
  const rows: Row[] = [];
  const users = new Map<number, string[]>();
  for (const [id, endpoint] of kernel.endpoints.entries()) {
    if (endpoint.policy !== 0) users.set(endpoint.policy, [...users.get(endpoint.policy) ?? [], String(id)]);
  }
  for (const key of outer.keys()) {
    const slot = new DataView(key.buffer).getUint32(0, true);
    const inner = outer.lookupInner(u32(slot));
    const header = kernel.policySlots.get(slot);
    if (inner === undefined || header === undefined) continue;
    using map = inner;
    const common = {
      slot: String(slot),
      policy: names.policy(slot),
      endpoints: users.get(slot)?.join(",") ?? "",
    };
    for (const [at, direction] of ["ingress", "egress"].entries()) {
      const { enforce, defaultCookie } = header.directions[at];
      rows.push({
        ...common,
        direction,
        identity: "",
        protocol: "",
        port: "",
        verdict: enforce ? "default deny" : "not enforced",
        precedence: "",
        proxyPort: "",
        cookie: String(defaultCookie),
      });
    }
    for (const [rawKey, rawValue] of map.entries()) {
      const k = PolicyKey.decode(rawKey), v = PolicyEntry.decode(rawValue);
      const length = k.shape & SHAPE_LENGTH;
      rows.push({
        ...common,
        direction: k.shape & SHAPE_EGRESS ? "egress" : "ingress",
        identity: k.identity === 0 ? "any" : String(k.identity),
        protocol: k.shape & SHAPE_ANY_PROTOCOL ? "ANY" : protocolName(k.protocol),
        port: length === 0
          ? "any"
          : length === 16
          ? String(k.port)
          : `${k.port}-${k.port + 2 ** (16 - length) - 1}`,
        verdict: v.flags & POLICY_ENTRY_DENY ? "deny" : "allow",
        precedence: String(v.precedence),
        proxyPort: String(v.proxyPort),
        cookie: String(v.cookie),
      });
    }
  }
  return { rows, entriesMax: outer.info.entriesMax };
}

function dumpConntrack(kernel: Kernel, names: DumpNames): Dump {
  const now = Number(kernel.sampleClock().jiffies & 0xffff_ffffn);
  const rows = kernel.ct.entries().map(([key, entry]) => {
    const fromHi = (entry.flags & CT_ORIGIN_HI) !== 0;
    const lo = { address: unmapped(key.lo), port: key.portLoBe },
      hi = { address: unmapped(key.hi), port: key.portHiBe };
    const [source, destination] = fromHi ? [hi, lo] : [lo, hi];
    const [opener, answerer] = entry.ends;
    const flags = [
      entry.flags & CT_SEEN_REPLY ? "replied" : "",
      entry.flags & CT_CLOSING_FORWARD ? "closing" : "",
      entry.flags & CT_CLOSING_REVERSE ? "closing-reverse" : "",
      entry.flags & CT_TUNNEL ? "tunnel" : "",
      entry.flags & CT_SERVICE ? "service" : "",
      entry.flags & CT_REPLY_NAT ? "reply-nat" : "",
      entry.flags & CT_LOOPBACK ? "loopback" : "",
    ].filter((flag) => flag !== "").join(",");
    return {
      protocol: protocolName(key.protocol),
      source: source.address,
      sourcePort: String(source.port),
      destination: destination.address,
      destinationPort: String(destination.port),
      sourceEndpoint: names.endpoint(opener.endpoint),
      destinationEndpoint: names.endpoint(answerer.endpoint),
      sourceIdentity: String(opener.identity),
      destinationIdentity: String(answerer.identity),
      flags,
      service: entry.service === 0 ? "" : names.service(entry.service) || String(entry.service),
      translated: isZero(entry.translated) ? "" : `${unmapped(entry.translated)} ${entry.translatedPortBe}`,
      expiresS: String(Math.round(((entry.expires - now) | 0) / names.hz)),
      egressCookie: String(opener.cookie),
      ingressCookie: String(answerer.cookie),
    };
  });
  return { rows, entriesMax: kernel.ct.entriesMax };
}

function dumpIpcache(kernel: Kernel): Dump {
  const row = (prefix: string, entry: { identity: number; node: Uint8Array }): Row => ({
    prefix,
    identity: String(entry.identity),
    node: isZero(entry.node) ? "" : unmapped(entry.node),
  });
  const exact = kernel.ipcacheExact.entries().map(([address, entry]) => {
    const text = unmapped(address);
    return row(`${text}/${text.includes(":") ? 128 : 32}`, entry);
  });
  const wide = kernel.ipcache.entries().map(([key, entry]) => {
    const text = unmapped(key.address);
    return row(`${text}/${text.includes(":") ? key.prefixlen : key.prefixlen - 96}`, entry);
  });
  return {
    rows: [...exact, ...wide],
    entriesMax: kernel.ipcacheExact.entriesMax + kernel.ipcache.entriesMax,
  };
}

const REASONS = new Map(Object.entries(DropReasonNumber).map(([name, number]) => [number, name]));
const DIRECTIONS = ["", "ingress", "egress", "service"];

function dumpMetrics(kernel: Kernel): Dump {
  const rows = kernel.metrics.entriesPerCpu().map(([key, cpus]): Row => ({
    reason: String(key >> 2),
    name: key >> 2 === 0 ? "FORWARDED" : REASONS.get(key >> 2) ?? "",
    direction: DIRECTIONS[key & 3],
    packets: String(cpus.reduce((sum, cpu) => sum + cpu.packets, 0n)),
    bytes: String(cpus.reduce((sum, cpu) => sum + cpu.bytes, 0n)),
  })).filter((row) => row.packets !== "0");
  return { rows, entriesMax: kernel.metrics.entriesMax };
}

function dumpAddresses(kernel: Kernel, names: DumpNames): Dump {
  const rows = kernel.addresses.entries().map(([address, owner]) => ({
    address: unmapped(address),
    endpoint: owner.endpoint === 0 ? "" : names.endpoint(owner.endpoint) || String(owner.endpoint),
    host: owner.flags & ADDRESS_HOST ? "yes" : "",
  }));
  return { rows, entriesMax: kernel.addresses.entriesMax };
}

function ipv4Text(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join(".");
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
