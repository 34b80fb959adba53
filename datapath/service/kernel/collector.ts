/**
 * The collector of conntrack and of translated flows: the kernel walks the tables, this says when, and what goes.
 *
 * What has expired goes every half a minute. As a table fills, flows that were never answered go too, sooner the fuller it is, and
 * of who holds most first. That nobody takes it all meanwhile is the programs' own business (datapath/bpf/lib/share.h): somebody
 * fills a table in less time than a process needs to look.
 *
 * @module
 */
import type { Clock, Logger } from "@weir/common";
import {
  DIRECTION_EGRESS,
  DIRECTION_INGRESS,
  DIRECTION_SERVICE,
  DROP_CT_CREATE_FAILED,
  DROP_CT_SHARE,
  DROP_HANDLE_SHARE,
  DROP_HANDLES_FULL,
  DROP_NAT_NO_MAPPING,
  DROP_NAT_SHARE,
  GC_EXPIRED,
  GC_PRESSURE,
  UnansweredRequest,
} from "@weir/maps";
import type { Handles } from "./handles.ts";
import type { Holder, Holders } from "./holders.ts";
import type { Kernel } from "./kernel.ts";

/** How hard it is pressed: from which fill on, how often it is collected, and how old unanswered flows may grow (s). */
interface Level {
  fill: number;
  everyMs: number;
  age: number;
  /** Of who holds more than a part of the table. */
  ageOver: number;
}
const LEVELS: readonly Level[] = [
  { fill: 0.9, everyMs: 500, age: 3, ageOver: 1 },
  { fill: 0.75, everyMs: 1000, age: 5, ageOver: 1 },
  { fill: 0.5, everyMs: 5000, age: 20, ageOver: 5 },
];
/** Somebody holds much with more than this part of a table. */
const MUCH = 1 / 16;
/** How long after the last drop it counts as three quarters full. */
const PRESSURE_MS = 10_000;
/** Of the time that passes, looking for unanswered flows takes no more than one part in so many. */
const LOOKING_PART = 50;
/** At most one line in the log per table in this time. */
const LOG_MS = 10_000;

interface Table {
  name: string;
  /** Drops that say that there is no room, or no port: of a full table, and of a share. */
  reasons: readonly number[];
  entriesMax: number;
  /** Drops seen so far. */
  seen: bigint;
  droppedMs: number;
  loggedMs: number;
}

/** Flows that are left. */
export interface Collected {
  ct: number;
  nat: number;
}

/** The collector of conntrack and of translated flows. */
export class Collector {
  readonly #ct: Table;
  readonly #nat: Table;
  readonly #handles: Table;
  #collectedMs = -Infinity;
  #lookAgainMs = -Infinity;
  readonly #kernel: Kernel;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(
    kernel: Kernel,
    readonly holders: Holders,
    readonly handles: Handles,
    clock: Clock,
    log: Logger,
  ) {
    this.#kernel = kernel;
    this.#clock = clock;
    this.#log = log;
    const table = (name: string, map: string, reasons: readonly number[]): Table => ({
      name,
      reasons,
      entriesMax: kernel.map(map).info.entriesMax,
      seen: this.#drops(reasons),
      droppedMs: -Infinity,
      loggedMs: -Infinity,
    });
    this.#ct = table("Conntrack", "weir_ct", [DROP_CT_CREATE_FAILED, DROP_CT_SHARE]);
    this.#nat = table("Translation", "weir_nat", [DROP_NAT_NO_MAPPING, DROP_NAT_SHARE]);
    this.#handles = table("The L7 proxy's table of handles", "weir_handles", [
      DROP_HANDLES_FULL,
      DROP_HANDLE_SHARE,
    ]);
  }

  /** Removes what has expired. @returns flows that are left */
  collect(): Collected {
    const { live, natLive } = this.#kernel.collect({ mode: GC_EXPIRED });
    return { ct: live, nat: natLive };
  }

  /** To be called several times a second: two lookups while nobody presses. */
  relieve(): void {
    const nowMs = this.#clock.monotonicMs(), { holders } = this;
    const pressed = [
      [this.#ct, holders.ct],
      [this.#nat, holders.nat],
      [this.#handles, this.handles.held],
    ] as const;
    const levels = pressed.map(([table, entries]) => this.#level(table, entries, nowMs));
    const level = LEVELS.find((level) => levels.includes(level));
    if (level === undefined || nowMs - this.#collectedMs < level.everyMs) return;
    this.#collectedMs = nowMs;
    const { deleted, live, natDeleted, natLive } = this.#kernel.collect({
      mode: GC_PRESSURE,
      age: level.age,
      ageOver: level.ageOver,
      heldMax: Math.ceil(Math.min(this.#ct.entriesMax, this.#nat.entriesMax) * MUCH),
    });
    for (const [at, [table]] of pressed.entries()) {
      if (levels[at] === undefined || nowMs - table.loggedMs < LOG_MS) continue;
      table.loggedMs = nowMs;
      this.#log.warn(`${table.name} is short of room`, {
        ...(table === this.#ct
          ? { deleted, left: live }
          : table === this.#nat
          ? { deleted: natDeleted, left: natLive }
          : { left: this.handles.held }),
        entriesMax: table.entriesMax,
        // Who is refused, else who holds most
        holder: describe(holders.list().toSorted((a, b) => Number(b.pressing) - Number(a.pressing))[0]),
      });
    }
  }

  /**
   * Has the kernel tell of flows that wait for an answer. To be called every second; the fuller the table, the less often it looks.
   * @returns flows that wait, undefined when it did not look
   */
  tellUnanswered(): number | undefined {
    const begunMs = this.#clock.monotonicMs();
    if (begunMs < this.#lookAgainMs || this.holders.ct === 0) return undefined;
    const ctx = new Uint8Array(UnansweredRequest.bytes);
    const { waiting } = UnansweredRequest.decode(
      this.#kernel.program("weir_unanswered").testRun({ ctx }).ctx,
    );
    const endedMs = this.#clock.monotonicMs();
    this.#lookAgainMs = endedMs + LOOKING_PART * (endedMs - begunMs);
    return waiting;
  }

  #level(table: Table, entries: number, nowMs: number): Level | undefined {
    const drops = this.#drops(table.reasons);
    if (drops !== table.seen) table.droppedMs = nowMs;
    table.seen = drops;
    const fill = entries / table.entriesMax;
    // Flows grow old enough only while we wait, so it goes on for some time after the last drop.
    const floor = nowMs - table.droppedMs < PRESSURE_MS ? 0.75 : 0;
    return LEVELS.find((level) => Math.max(fill, floor) >= level.fill);
  }

  #drops(reasons: readonly number[]): bigint {
    let count = 0n;
    for (const reason of reasons) {
      for (const direction of [DIRECTION_INGRESS, DIRECTION_EGRESS, DIRECTION_SERVICE]) {
        for (const cpu of this.#kernel.metrics.getPerCpu(reason << 2 | direction)) count += cpu.packets;
      }
    }
    return count;
  }
}

function describe(holder: Holder | undefined): string {
  if (holder === undefined) return "";
  const who = holder.kind === "node" || holder.endpoint === 0
    ? holder.kind
    : `${holder.kind} ${holder.endpoint}`;
  return `${who}: ${holder.ct} flows, ${holder.nat} of translation`;
}
