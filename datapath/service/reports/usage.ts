/** Who holds how much of what traffic fills, and who presses on it: `GET /v1/usage`, `status.degraded`, metrics. @module */
import type { Clock, MetricsRegistry } from "@weir/common";
import { EVENT_OUTSIDE } from "@weir/maps";
import { Degradation, EventLoss, TableHolder, TableUsage, type Usage } from "@weir/proto/datapath";
import type { Handles } from "../kernel/handles.ts";
import type { Holder, Holders } from "../kernel/holders.ts";
import type { IpcacheStore } from "../node/ipcache.ts";
import type { EventLosses } from "./event_losses.ts";
import type { EventHub } from "./events.ts";
import type { Troubles } from "./troubles.ts";

/** What is looked at. */
export interface UsageParts {
  clock: Clock;
  flows: Holders;
  events: EventHub;
  losses: EventLosses;
  troubles: Troubles;
  ipcache: IpcacheStore;
  handles: Handles;
  /** Of conntrack and translation. */
  sizes: { ct: number; nat: number };
  /** Name of an endpoint, "" for none. */
  nameOf: (id: number) => string;
}

/** Who was refused something within this time presses. */
const PRESSING_MS = 10_000;
/** Tables as metrics name them. */
const LABELS: Record<string, string> = {
  conntrack: "ct",
  nat: "nat",
  handles: "handles",
  events: "events",
  ipcache: "ipcache",
};

/** Who holds how much of what traffic fills, and who presses on it. */
export class UsageReport {
  readonly #told = new Map<number, number>();
  /** By table and holder: how much was refused when it was looked at last, and when that had grown. */
  readonly #refused = new Map<string, { count: number; atMs: number }>();
  #begun = false;
  readonly #parts: UsageParts;

  constructor(parts: UsageParts) {
    this.#parts = parts;
    // What was refused before this process began says nothing of now.
    this.#flowTables();
    this.#begun = true;
  }

  usage(): Usage {
    return { tables: this.#tables(), troubles: this.#parts.troubles.list() };
  }

  #tables(): TableUsage[] {
    return [...this.#flowTables(), this.#events(), this.#ipcache()];
  }

  /** Who was refused something in the last seconds, and by which table. */
  degraded(): Degradation[] {
    return this.#tables().flatMap(({ table, holders }) =>
      holders.filter(({ pressing }) => pressing).map(({ holder, towards, held, refused }) =>
        Degradation.create({ table, holder, towards, held, refused })
      )
    );
  }

  /** Losses of events that have grown since this was asked last; with `all` everybody's. */
  eventLosses(all: boolean): EventLoss[] {
    return this.#parts.losses.list().flatMap(({ holder, lost }) => {
      const told = this.#told.get(holder) ?? 0;
      if (lost === 0 || (!all && told === lost)) return [];
      this.#told.set(holder, lost);
      return EventLoss.create({ ...this.#name(holder), lost });
    });
  }

  mountMetrics(metrics: MetricsRegistry): void {
    const rows = (of: (holder: TableHolder) => number) => () =>
      this.#tables().flatMap(({ table, holders }) =>
        holders.map((
          h,
        ): [Record<string, string>, number] => [{ ...labelsOf(table, h), table: LABELS[table] }, of(h)])
      );
    metrics.gauge(
      "weir_datapath_share_entries",
      "Entries of tables by who holds them; of events, those made so far",
    )
      .collect(rows(({ held }) => held));
    metrics.gauge(
      "weir_datapath_share_refused",
      "New flows and events that their share refused; prefixes left out",
    )
      .collect(rows(({ refused }) => refused));
    metrics.gauge("weir_datapath_degraded", "Who presses on a table: 1 for ten seconds after a refusal")
      .collect(
        () => this.degraded().map((who) => [{ ...labelsOf(who.table, who), table: LABELS[who.table] }, 1]),
      );
  }

  #flowTables(): TableUsage[] {
    const { flows: holders, sizes, handles } = this.#parts, flows = holders.list();
    const table = (
      name: string,
      entries: number,
      entriesMax: number,
      of: (holder: Holder) => { held: number; refused: number },
    ) =>
      TableUsage.create({
        table: name,
        entries,
        entriesMax,
        holders: flows.map((holder) => {
          const outside = holder.kind === "outside" ? EVENT_OUTSIDE : 0;
          const { held, refused } = of(holder);
          return {
            ...this.#name(outside + holder.endpoint),
            held,
            refused,
            pressing: holder.pressing && refused > 0,
          };
        }).filter(({ held, refused }) => held > 0 || refused > 0).sort((a, b) => b.held - a.held),
      });
    return [
      table("conntrack", holders.ct, sizes.ct, (h) => ({ held: h.ct, refused: Number(h.ctRefused) })),
      table(
        "nat",
        holders.nat,
        sizes.nat,
        (h) => ({ held: h.nat, refused: Number(h.natRefused + h.portsRefused) }),
      ),
      table(
        "handles",
        handles.held,
        handles.entriesMax,
        (h) => ({ held: h.handles, refused: Number(h.handlesRefused) }),
      ),
    ];
  }

  #events(): TableUsage {
    const { bytes, bytesMax } = this.#parts.events.pressure;
    // A ring that nobody reads is full of old records, whoever made them.
    const read = this.#parts.events.readers > 0;
    return TableUsage.create({
      table: "events",
      entries: bytes,
      entriesMax: bytesMax,
      holders: this.#parts.losses.list().sort((a, b) => b.made - a.made).map((holder) => ({
        ...this.#name(holder.holder),
        held: holder.made,
        refused: holder.lost,
        pressing: read && holder.pressing,
      })),
    });
  }

  #ipcache(): TableUsage {
    const { ipcache } = this.#parts;
    return TableUsage.create({
      table: "ipcache",
      entries: ipcache.size,
      entriesMax: ipcache.entriesMax,
      holders: ipcache.sources().map(({ source, held, left }) =>
        TableHolder.create({ holder: source, held, refused: left, pressing: left > 0 })
      ),
    });
  }

  #presses(key: string, count: number): boolean {
    const nowMs = this.#parts.clock.monotonicMs(), before = this.#refused.get(key);
    if (count === (before?.count ?? 0)) return before !== undefined && nowMs - before.atMs < PRESSING_MS;
    this.#refused.set(key, { count, atMs: this.#begun ? nowMs : -Infinity });
    return this.#begun;
  }

  #name(holder: number): { holder: string; towards: string } {
    const id = holder & (EVENT_OUTSIDE - 1),
      name = id === 0 ? "" : this.#parts.nameOf(id) || `endpoint ${id}`;
    if (holder >= EVENT_OUTSIDE) return { holder: "outside", towards: name };
    return { holder: name || "node", towards: "" };
  }
}

function labelsOf(
  table: string,
  { holder, towards }: { holder: string; towards: string },
): { kind: string; name: string } {
  if (table === "ipcache") return { kind: "source", name: holder };
  if (holder === "outside") return { kind: "outside", name: towards };
  return holder === "node" ? { kind: "node", name: "" } : { kind: "endpoint", name: holder };
}
