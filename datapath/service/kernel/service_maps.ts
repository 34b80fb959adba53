/** The maps that services are made of, by what they hold. @module */
import type { BpfMap } from "@weir/loader";

/** The maps of services. */
export interface ServiceMaps {
  frontends: BpfMap;
  /** weir_state: has the revision of the frontends. */
  state: BpfMap;
  backends: BpfMap;
  selections: BpfMap;
  sourceRanges: BpfMap;
  counters: BpfMap;
}
