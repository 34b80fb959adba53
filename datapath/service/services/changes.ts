/** The writes of one update of services, and the order in which they are done. @module */
import { type BpfMap, expedited, waitForPrograms } from "@weir/loader";
import type { Backend, Frontend } from "@weir/maps";
import type { MapWrites } from "../kernel/map_writes.ts";
import type { SelectionContent } from "./selection_table.ts";
import type { ServiceTables } from "./tables.ts";

/** Gathered service by service, then written at once. */
export class ServiceChanges {
  /** Frontends that are closed to the outside while their ranges change. */
  readonly shut = new Map<string, Frontend>();
  readonly records: [number, Backend][] = [];
  readonly ranges: string[] = [];
  readonly contents = new Map<number, SelectionContent>();
  readonly frontends = new Map<string, Frontend>();
  /** How many of `frontends` are not in the kernel yet. */
  frontendsNew = 0;
  readonly frontendsGone = new Set<string>();
  readonly rangesGone: string[] = [];
  readonly recordsLater: [number, Backend][] = [];
  readonly retired: number[] = [];
  readonly slots: number[] = [];
  /** Services whose counters start anew. */
  readonly counters: number[] = [];

  /** Does it. Each line leaves every packet a whole choice. */
  write({ frontends, backends, selections, ranges }: ServiceTables, nowMs: number): void {
    frontends.put(this.shut);
    backends.put(this.records);
    ranges.add(this.ranges);
    selections.apply(this.contents);
    frontends.put(this.frontends);
    frontends.delete([...this.frontendsGone].filter((key) => !this.frontends.has(key)));
    ranges.delete(this.rangesGone);
    backends.put(this.recordsLater);
    if (this.retired.length === 0 && this.slots.length === 0) return;
    expedited(() => {
      waitForPrograms();
      backends.retire(this.retired, nowMs);
      selections.release(this.slots);
    });
  }

  /** A service id that is given anew starts at zero. */
  clearCounters(counters: BpfMap, writes: MapWrites): void {
    if (this.counters.length === 0) return;
    const zero = new Uint8Array(counters.valueBytes);
    writes.before();
    writes.add(
      counters.updateBatch(this.counters.map((id) => [new Uint8Array(Uint32Array.of(id).buffer), zero])),
    );
  }
}
