/** Everything that flows are added up to: who speaks to whom, causes of drops, hits of rules, the strip over time. @module */
import type { Flow } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { DropCauses } from "./drop_causes.ts";
import { cardOf, type EndNames, secondsOf } from "./flow_end.ts";
import { FlowTable, FORGET_S, type TableLimits } from "./flow_table.ts";
import { MAP_LIMITS } from "./map_view.ts";
import { PolicyHits } from "./policy_hits.ts";
import { StripCounter } from "./time_strip.ts";

/** Causes of drops stay so long, in seconds. */
const CAUSES_S = 3600;

/** Options of {@link FlowPicture}. */
export interface PictureOptions {
  readonly names: EndNames;
  /** Bucket of the strip, default 10 s, and how many are kept, default 360: an hour. */
  readonly stepS?: number;
  readonly bucketsMax?: number;
  readonly limits?: Partial<TableLimits>;
}

/** One picture: of what happens now, or of a window of the past. */
export class FlowPicture {
  readonly table: FlowTable;
  readonly causes = new DropCauses(MAP_LIMITS.causesMax);
  readonly hits = new PolicyHits();
  readonly strip: StripCounter;
  /** Time of the oldest flow that is in it, Unix seconds; Infinity: none. */
  oldestS = Infinity;
  /** Likewise of the newest; -Infinity: none. */
  newestS = -Infinity;
  /** Events that were lost on the way. */
  lost = 0;
  readonly #names: EndNames;

  constructor({ names, stepS = 10, bucketsMax = 360, limits }: PictureOptions) {
    this.#names = names;
    this.table = new FlowTable(names, limits);
    this.strip = new StripCounter(stepS, bucketsMax);
  }

  /** Takes in one flow. */
  add(flow: Flow, nowS: number): void {
    const atS = secondsOf(flow, nowS), type = flow.event_type?.type;
    this.oldestS = Math.min(this.oldestS, atS);
    this.newestS = Math.max(this.newestS, atS);
    const pair = this.table.add(flow, nowS);
    this.strip.add("flows", atS);
    if (pair === undefined) return;
    this.hits.add(flow, nowS, {
      egress: cardOf(pair.from.end, "workload").id,
      ingress: cardOf(pair.to.end, "workload").id,
    });
    if (flow.verdict === "DROPPED" && type !== EVENT.POLICY_VERDICT) {
      this.strip.add("dropped", atS);
      this.causes.add(flow, pair, { names: this.#names, nowS });
    } else if (flow.verdict === "AUDIT") this.strip.add("audited", atS);
    if (type === EVENT.TROUBLE) this.strip.add("trouble", atS);
  }

  /** So many events were lost. */
  lose(events: number, nowS: number): void {
    this.lost += events;
    this.strip.add("lost", nowS, events);
  }

  /** Forgets what is too old for a live view. */
  forget(nowS: number): void {
    this.table.forget(nowS - FORGET_S);
    this.causes.forget(nowS - CAUSES_S);
  }
}
