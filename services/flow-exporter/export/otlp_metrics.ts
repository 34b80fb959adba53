/**
 * Metrics to an OTLP endpoint, every so often: what Prometheus would read here, and from the other services of this machine. Counts are
 * cumulative, so what could not be sent is in the next.
 * @module
 */
import type { WeirClient } from "@weir/client";
import { Backoff, type Clock, errorText } from "@weir/common";
import { ExportReport, type ExportReportParts } from "./export_report.ts";
import { metricsRequests, resourceOf } from "./otlp_json.ts";
import { type OtlpTarget, type Outcome, sendOtlp } from "./otlp_sender.ts";
import { readPrometheusText } from "./prometheus_text.ts";

/** What it is made of. */
export interface OtlpMetricsParts extends ExportReportParts {
  readonly target: OtlpTarget;
  readonly nodeName: string;
  /** Services of this machine by name. */
  readonly services: Readonly<Record<string, Pick<WeirClient, "exchange">>>;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly retryMsMin?: number;
}

const POINTS_MAX = 2000, SCRAPE_MS_MAX = 5000;

/** Sends until `signal` aborts. */
export async function sendMetrics(parts: OtlpMetricsParts, signal: AbortSignal): Promise<void> {
  const { clock, intervalMs, target } = parts, startMs = clock.nowMs();
  const report = new ExportReport("otlp-metrics", parts);
  const well = `sends metrics to ${target.endpoint} every ${intervalMs / 1000} s`;
  report.say(well, "", 0);
  while (!signal.aborted) {
    const dueMs = clock.monotonicMs() + intervalMs;
    const wrong = await sendOnce(parts, report, { startMs, dueMs, signal });
    report.say(well, wrong, 0);
    await clock.sleep(dueMs - clock.monotonicMs(), signal);
  }
  report.end();
}

/** Sends all once; what is wrong, or "". */
async function sendOnce(
  parts: OtlpMetricsParts,
  report: ExportReport,
  { startMs, dueMs, signal }: { startMs: number; dueMs: number; signal: AbortSignal },
): Promise<string> {
  const { metrics, services, clock, nodeName, target, retryMsMin = 500 } = parts;
  const wrong: string[] = [];
  for (const service of ["", ...Object.keys(services)]) {
    let text: string;
    try {
      text = service === "" ? metrics.render() : await textOf(services[service]);
    } catch (error) {
      wrong.push(`${service} has no metrics: ${errorText(error)}`);
      continue;
    }
    const requests = metricsRequests(
      resourceOf(service || "flow-exporter", nodeName),
      readPrometheusText(text),
      {
        // Since when others count is not known.
        startMs: service === "" ? startMs : undefined,
        nowMs: clock.nowMs(),
        pointsMax: POINTS_MAX,
      },
    );
    for (const body of requests) {
      const backoff = new Backoff({ delayMsMin: retryMsMin, delayMsMax: 30_000 });
      let outcome: Outcome;
      while (true) {
        outcome = await sendOtlp(target, "metrics", body, { clock, stop: signal });
        if (outcome.kind === "taken") break;
        report.error();
        report.say("", outcome.why, 0);
        const waitMs = Math.max(backoff.nextMs(), outcome.kind === "later" ? outcome.afterMs ?? 0 : 0);
        // The next will have newer ones.
        if (outcome.kind !== "later" || signal.aborted || clock.monotonicMs() + waitMs >= dueMs) {
          return outcome.why;
        }
        await clock.sleep(waitMs, signal);
      }
      if (outcome.rejected > 0) wrong.push(`${outcome.rejected} points were refused: ${outcome.why}`);
    }
  }
  return wrong.join("; ");
}

async function textOf(service: Pick<WeirClient, "exchange">): Promise<string> {
  const { bytes } = await service.exchange("/metrics", {}, { deadlineMs: SCRAPE_MS_MAX });
  return new TextDecoder().decode(bytes);
}
