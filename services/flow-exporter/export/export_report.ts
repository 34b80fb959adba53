/** What an export says about itself: metrics, a line of health, and the log when it begins or ceases to fail. @module */
import type { Health, Logger, MetricsRegistry } from "@weir/common";

/** Where it is said. */
export interface ExportReportParts {
  readonly metrics: MetricsRegistry;
  readonly health: Pick<Health, "ok" | "remove">;
  readonly log: Logger;
}

/** Why flows are lost: overwritten in the ring, no room in the queue, refused by the other side, left at the end. */
export type LossCause = "ring" | "queue full" | "refused" | "stopped";

/** Reports on one export; an export that fails takes no readiness from a node. */
export class ExportReport {
  #isFailing = false;
  readonly name: string;
  readonly #parts: ExportReportParts;

  constructor(name: string, parts: ExportReportParts) {
    this.name = name;
    this.#parts = parts;
  }

  /** Flows were written or sent. */
  flows(count: number): void {
    this.#count(
      "weir_flow_export_flows_total",
      "Flows, and notes of lost ones, that were written or sent",
      count,
    );
  }

  lost(count: number, why: LossCause): void {
    const help =
      "Flows that an export lost: overwritten in the ring, no room in its queue, refused by the other side";
    this.#count("weir_flow_export_lost_total", help, count, { why });
  }

  /** A write or request failed. */
  error(): void {
    this.#count("weir_flow_export_errors_total", "Writes and requests that failed", 1);
  }

  /** A file that was put aside could not be compressed or removed. */
  backupError(what: string): void {
    const help = "Files put aside that could not be compressed or removed";
    this.#count("weir_flow_export_backup_errors_total", help, 1);
    this.#parts.log.warn("Cannot tend files put aside", { export: this.name, what });
  }

  /** How it is: `wrong` is "" when all is well. */
  say(message: string, wrong: string, queuedChars: number): void {
    const { metrics, health, log } = this.#parts, labels = { export: this.name };
    health.ok(`export ${this.name}`, wrong === "" ? message : wrong);
    metrics.gauge("weir_flow_export_queued_chars", "Characters of flows that wait to be written or sent")
      .set(queuedChars, labels);
    metrics.gauge("weir_flow_export_failing", "Whether the last write or request failed or hangs")
      .set(wrong === "" ? 0 : 1, labels);
    if ((wrong !== "") === this.#isFailing) return;
    this.#isFailing = wrong !== "";
    if (wrong !== "") log.warn("Cannot export", { ...labels, error: wrong });
    else log.info("Exports again", labels);
  }

  /** It is gone. */
  end(): void {
    const { metrics, health } = this.#parts;
    health.remove(`export ${this.name}`);
    for (const gauge of ["weir_flow_export_queued_chars", "weir_flow_export_failing"]) {
      metrics.gauge(gauge, "").remove({ export: this.name });
    }
  }

  #count(name: string, help: string, by: number, labels: Record<string, string> = {}): void {
    this.#parts.metrics.counter(name, help).increment({ export: this.name, ...labels }, by);
  }
}
