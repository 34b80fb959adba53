/** The collector of conntrack and of translated flows: the kernel walks the tables, this says when. @module */
import type { Clock, Logger } from "@weir/common";
import {
  DIRECTION_EGRESS,
  DIRECTION_INGRESS,
  DIRECTION_SERVICE,
  DROP_CT_CREATE_FAILED,
  DROP_NAT_NO_MAPPING,
  GC_EXPIRED,
  GC_PRESSURE,
} from "@weir/maps";
import type { Kernel } from "./kernel.ts";

/** Unanswered flows older than this go when a table is full, and how long after the last drop they go on going. */
const PRESSURE_AGE_S = 5, PRESSURE_MS = 10_000;
/** Drops that say that a table is full, or that translation has no port left. */
const FULL_REASONS = [["Conntrack", DROP_CT_CREATE_FAILED], ["Translation", DROP_NAT_NO_MAPPING]] as const;
/** A table with more than this share of its entries taken is collected every second. */
const NEARLY_FULL = 0.9;

/** Flows that are left. */
export interface Collected {
  ct: number;
  nat: number;
}

/** See the module comment. */
export class Collector {
  /** Drops seen so far, and until when room is made, by table. */
  readonly #tables: { name: string; reason: number; seen: bigint; untilMs: number }[];
  #left: Collected = { ct: 0, nat: 0 };

  constructor(private readonly kernel: Kernel, private readonly clock: Clock, private readonly log: Logger) {
    this.#tables = FULL_REASONS.map(([name, reason]) => ({
      name,
      reason,
      seen: this.#drops(reason),
      untilMs: 0,
    }));
  }

  /** Removes what has expired. @returns flows that are left */
  collect(): Collected {
    const { live, natLive } = this.kernel.collect({ mode: GC_EXPIRED });
    return this.#left = { ct: live, nat: natLive };
  }

  /** To be called every second: makes room when new flows were dropped because a table is full. */
  relieve(): void {
    const nowMs = this.clock.monotonicMs(), { kernel } = this;
    for (const table of this.#tables) {
      const drops = this.#drops(table.reason);
      if (drops !== table.seen) table.untilMs = nowMs + PRESSURE_MS;
      table.seen = drops;
    }
    const natEntriesMax = kernel.map("weir_nat").info.entriesMax;
    // Flows grow old enough only while we wait, so it goes on for some time after the last drop.
    const full = this.#tables.filter(({ untilMs }) => nowMs < untilMs);
    if (full.length > 0) {
      const { deleted, live, natDeleted, natLive } = kernel.collect({
        mode: GC_PRESSURE,
        age: PRESSURE_AGE_S,
      });
      this.#left = { ct: live, nat: natLive };
      const { entriesMax } = kernel.ct,
        facts = { deleted, live, entriesMax, natDeleted, natLive, natEntriesMax };
      for (const { name } of full) this.log.warn(`${name} was full`, facts);
    } else if (this.#left.nat > natEntriesMax * NEARLY_FULL) this.collect();
  }

  #drops(reason: number): bigint {
    let count = 0n;
    for (const direction of [DIRECTION_INGRESS, DIRECTION_EGRESS, DIRECTION_SERVICE]) {
      for (const cpu of this.kernel.metrics.getPerCpu(reason << 2 | direction)) count += cpu.packets;
    }
    return count;
  }
}
