/** Translated flows. @module */
import { protocolName } from "@weir/common";
import { NAT_DSR, NAT_HOST, NAT_MASQUERADE, NAT_REVERSE, NAT_TUNNEL, NatEntry, NatKey } from "@weir/maps";
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

const NAT_FLAGS: readonly [number, string][] = [
  [NAT_REVERSE, "reverse"],
  [NAT_MASQUERADE, "masquerade"],
  [NAT_HOST, "host"],
  [NAT_DSR, "dsr"],
  [NAT_TUNNEL, "tunnel"],
];

/** Pairs of translated flows, each direction a row. */
export function dumpNat(kernel: Kernel, names: DumpNames): Dump {
  const now = jiffiesNow(kernel), map = kernel.map("weir_nat");
  const rows = map.entries().map(([rawKey, rawEntry]): Row => {
    const key = NatKey.decode(rawKey), entry = NatEntry.decode(rawEntry);
    return {
      protocol: protocolName(key.protocol),
      source: endpointText(key.source, key.portSourceBe),
      destination: endpointText(key.destination, key.portDestinationBe),
      translatedSource: endpointText(entry.source, entry.portSourceBe),
      translatedDestination: endpointText(entry.destination, entry.portDestinationBe),
      flags: flagsText(entry.flags, NAT_FLAGS),
      service: entry.service === 0 ? "" : names.service(entry.service) || String(entry.service),
      backendId: entry.backend === 0 ? "" : String(entry.backend),
      expiresS: secondsUntil(entry.expires, now, names.hz),
    };
  });
  return { rows, entriesMax: map.info.entriesMax };
}
