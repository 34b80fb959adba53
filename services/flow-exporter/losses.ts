/**
 * Whose events were lost on this node, as the datapath says: a metric by endpoint, and for who follows flows a LostEvent that
 * names it. An endpoint that makes more than its share loses its own events only.
 * @module
 */
import type { MetricsRegistry } from "@weir/common";
import type { EventBatch } from "@weir/proto/datapath";

/** Events of one holder that were lost since it was told last. */
export interface Loss {
  /** "default/web", "node", "outside to default/web". */
  holder: string;
  lost: number;
}

/** Counts lost events by endpoint, and tells listeners. */
export class Losses {
  readonly #known = new Map<string, number>();
  readonly #listeners = new Set<(losses: Loss[]) => void>();
  #begun = false;
  readonly #metrics: MetricsRegistry;

  constructor(metrics: MetricsRegistry) {
    this.#metrics = metrics;
  }

  /** Takes what a batch says. What was lost before the first one is counted, but nobody is told of it. */
  take(batch: Pick<EventBatch, "lostBy">): void {
    const begun = this.#begun, grown: Loss[] = [];
    this.#begun = true;
    if (batch.lostBy.length === 0) return;
    const gauge = this.#gauge();
    for (const { holder, towards, lost } of batch.lostBy) {
      const name = towards === "" ? holder : `${holder} to ${towards}`;
      const before = this.#known.get(name) ?? 0;
      this.#known.set(name, lost);
      gauge.set(lost, { holder, towards });
      // Fewer than before: another endpoint has the name.
      if (lost !== before) grown.push({ holder: name, lost: lost > before ? lost - before : lost });
    }
    if (begun && grown.length > 0) { for (const listener of this.#listeners) listener(grown); }
  }

  /** The endpoint is gone; its counts go, and who has its name next begins with none. */
  forget(endpoint: string): void {
    for (
      const name of [
        endpoint,
        ...[...this.#known.keys()].filter((key) => key.endsWith(` to ${endpoint}`)),
      ]
    ) {
      if (!this.#known.delete(name)) continue;
      const [holder, towards = ""] = name.split(" to ");
      this.#gauge().remove({ holder, towards });
    }
  }

  #gauge() {
    return this.#metrics.gauge(
      "weir_flow_events_lost",
      "Events lost since the datapath's maps were made, by whose",
    );
  }

  /** Tells `listener` of every loss until `signal` aborts. */
  follow(listener: (losses: Loss[]) => void, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }
}
