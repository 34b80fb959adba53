/** The dumps by name. Which there are says `proto/dumps.ts`; the compiler says when one is missing here. @module */
import { ProblemError } from "@weir/common";
import type { MapDump } from "@weir/proto/datapath";
import { DUMP_NAMES, type DumpName } from "@weir/proto/dumps";
import type { Kernel } from "../kernel/kernel.ts";
import { dumpConntrack } from "./conntrack.ts";
import type { Dumper, DumpNames } from "./dump.ts";
import { dumpAddresses, dumpEndpoints } from "./endpoints.ts";
import { dumpHandles } from "./handles.ts";
import { dumpIpcache } from "./ipcache.ts";
import { dumpMetrics } from "./metrics.ts";
import { dumpNat } from "./nat.ts";
import { dumpPolicies } from "./policies.ts";
import { dumpAffinity, dumpBackends, dumpServices, dumpSourceRanges } from "./services.ts";

/** Rows of one dump at most; the count of entries tells the rest. */
export const DUMP_ROWS_MAX = 100_000;

const DUMPS: Record<DumpName, Dumper> = {
  endpoint: dumpEndpoints,
  policy: dumpPolicies,
  ct: dumpConntrack,
  nat: dumpNat,
  handle: dumpHandles,
  lb: dumpServices,
  backend: dumpBackends,
  affinity: dumpAffinity,
  source_ranges: dumpSourceRanges,
  ipcache: dumpIpcache,
  metrics: dumpMetrics,
  address: dumpAddresses,
};

/** One dump. @throws {ProblemError} MAP_UNKNOWN */
export function dumpMap(kernel: Kernel, name: string, names: DumpNames): MapDump {
  const dump = Object.hasOwn(DUMPS, name) ? DUMPS[name as DumpName] : undefined;
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
