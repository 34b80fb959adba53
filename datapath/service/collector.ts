/** Conntrack's collector: the kernel walks the table, this says when. @module */
import type { Clock, Logger } from "@weir/common";
import { GC_EXPIRED, GC_PRESSURE } from "@weir/maps";
import type { Kernel } from "./kernel.ts";

/** Drop reason of a full conntrack table. */
const DROP_CT_CREATE_FAILED = 155;
/** Unanswered flows older than this go when conntrack is full, and how long after the last drop they go on going. */
const PRESSURE_AGE_S = 5, PRESSURE_MS = 10_000;

/** See the module comment. */
export class Collector {
  #fullSeen: bigint;
  #pressureUntilMs = 0;

  constructor(private readonly kernel: Kernel, private readonly clock: Clock, private readonly log: Logger) {
    this.#fullSeen = this.#full();
  }

  /** Removes what has expired. @returns flows that are left */
  collect(): number {
    return this.kernel.collect({ mode: GC_EXPIRED }).live;
  }

  /** To be called every second: makes room when new flows were dropped because the table is full. */
  relieve(): void {
    const full = this.#full(), nowMs = this.clock.monotonicMs();
    if (full !== this.#fullSeen) this.#pressureUntilMs = nowMs + PRESSURE_MS;
    this.#fullSeen = full;
    // Flows grow old enough only while we wait, so it goes on for some time after the last drop.
    if (nowMs >= this.#pressureUntilMs) return;
    const { deleted, live } = this.kernel.collect({ mode: GC_PRESSURE, age: PRESSURE_AGE_S });
    this.log.warn("Conntrack was full", { deleted, live, entriesMax: this.kernel.ct.entriesMax });
  }

  #full(): bigint {
    let count = 0n;
    for (const direction of [1, 2]) {
      const cpus = this.kernel.metrics.getPerCpu(DROP_CT_CREATE_FAILED << 2 | direction);
      for (const cpu of cpus) count += cpu.packets;
    }
    return count;
  }
}
