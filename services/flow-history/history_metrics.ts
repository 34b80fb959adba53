/** Numbers of the history for Prometheus. @module */
import type { MetricsRegistry } from "@weir/common";
import type { Intake } from "./intake.ts";
import type { Retention } from "./retention.ts";

/** What is measured: the history. */
export interface MeasuredHistory {
  readonly intake: Intake;
  readonly retention: Retention;
  readonly waitingFlows: number;
}

/** Adds them. */
export function mountMetrics(history: MeasuredHistory, metrics: MetricsRegistry): void {
  const { intake } = history;
  const gauge = (name: string, help: string, value: () => number) => metrics.gauge(name, help).collect(value);
  gauge("weir_history_waiting_flows", "Flows that wait to be written", () => history.waitingFlows);
  gauge("weir_history_open_connections", "Connections that go on", () => intake.connections.size);
  gauge(
    "weir_history_evicted_connections",
    "Connections that had to make room",
    () => intake.connections.evicted,
  );
  gauge("weir_history_ends", "Ends of flows that are known", () => intake.ends.size);
  gauge("weir_history_refused_ends", "Flows whose end found no room", () => intake.ends.refused);
  gauge("weir_history_folded_flows", "Flows without sums of their own", () => intake.rollups.folded);
  gauge("weir_history_unreadable", "Answers of the relay that cannot be read", () => intake.unreadable);
  gauge(
    "weir_history_skewed_flows",
    "Flows whose time cannot be, and have the time when they came",
    () => intake.skewed,
  );
  gauge("weir_history_bytes", "What is stored takes", () => history.retention.bytes);
}
