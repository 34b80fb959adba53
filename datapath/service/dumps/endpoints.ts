/** Endpoints, and who has which address of this node. @module */
import { ADDRESS_BROADCAST, ADDRESS_HOST, ENDPOINT_CGROUP, ENDPOINT_HOST } from "@weir/maps";
import { formatMac } from "@weir/net";
import { unmapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { type Dump, type DumpNames, ipv4Text, isZero } from "./dump.ts";

/** `weir bpf endpoint`. */
export function dumpEndpoints(kernel: Kernel, names: DumpNames): Dump {
  const rows = kernel.endpoints.entries()
    .filter(([id, e]) =>
      id !== 0 && (e.ifindex !== 0 || e.cgroupId !== 0n || (id === ENDPOINT_HOST && e.policy !== 0))
    )
    .map(([id, e]) => {
      const counters = kernel.counters.getPerCpu(id);
      const sum = (field: keyof typeof counters[0]) =>
        String(counters.reduce((all, cpu) => all + cpu[field], 0n));
      return {
        id: String(id),
        name: names.endpoint(id),
        ifindex: String(e.ifindex),
        identity: String(e.identity),
        wire: e.wire === 0 ? "" : String(e.wire),
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

/** `weir bpf address`. */
export function dumpAddresses(kernel: Kernel, names: DumpNames): Dump {
  const rows = kernel.addresses.entries().map(([address, owner]) => ({
    address: unmapped(address),
    endpoint: owner.endpoint === 0 ? "" : names.endpoint(owner.endpoint) || String(owner.endpoint),
    host: owner.flags & ADDRESS_HOST ? "yes" : owner.flags & ADDRESS_BROADCAST ? "broadcast" : "",
  }));
  return { rows, entriesMax: kernel.addresses.entriesMax };
}
