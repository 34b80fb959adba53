/**
 * All that leaves this node by itself: flows to files, flows and metrics to an OTLP endpoint.
 *
 *     ring ─▶ pumpFlows ─┬▶ FlowLogs (files)
 *                        └▶ OtlpLogs        /metrics of this machine ─▶ sendMetrics
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { type Clock, errorText } from "@weir/common";
import { compileFilters, loadEngines } from "@weir/flow-filter";
import { compileFieldMask } from "@weir/proto/field_mask";
import { Flow } from "@weir/proto/flow";
import type { FlowRing } from "../flow_ring.ts";
import type { FlowLogParts } from "./flow_log.ts";
import type { FlowLogSpec } from "./flow_log_spec.ts";
import { FlowLogs } from "./flow_logs.ts";
import { pumpFlows } from "./flow_sink.ts";
import { authorityClient } from "./otlp_client.ts";
import { OtlpLogs } from "./otlp_logs.ts";
import { sendMetrics } from "./otlp_metrics.ts";
import type { OtlpSpec } from "./otlp_options.ts";

/** What is exported. */
export interface ExportsParts extends FlowLogParts {
  readonly ring: FlowRing<{ readonly flow: Flow; readonly isTraffic?: boolean }>;
  readonly fixed: FlowLogSpec | undefined;
  readonly configPath: string;
  readonly directory: string;
  readonly otlp: OtlpSpec | undefined;
  /** Services of this machine by name, for their metrics. */
  readonly services: Readonly<Record<string, Pick<WeirClient, "exchange">>>;
}

/** Exports until `signal` aborts; resolves when what waited has been written and sent, or its time was over. */
export async function runExports(parts: ExportsParts, signal: AbortSignal): Promise<void> {
  const { ring, clock } = parts, otlp = withAuthorities(parts.otlp, clock);
  const logs = new FlowLogs(parts);
  const records = otlp?.sendsLogs ? await startRecords(otlp, parts) : undefined;
  if (!logs.isOn && otlp === undefined) return;
  await Promise.all([
    logs.isOn ? logs.run(signal) : undefined,
    otlp?.sendsMetrics
      ? sendMetrics({ ...parts, target: otlp.target, intervalMs: otlp.metricsIntervalMs }, signal)
      : undefined,
    logs.isOn || records !== undefined
      ? pumpFlows(ring, () => records === undefined ? logs.sinks : [...logs.sinks, records], {
        clock,
        signal,
      })
        .then(() => records?.stop())
      : undefined,
  ]);
}

function withAuthorities(otlp: OtlpSpec | undefined, clock: Clock): OtlpSpec | undefined {
  if (otlp === undefined || otlp.caFile === "") return otlp;
  return { ...otlp, target: { ...otlp.target, client: authorityClient(otlp.caFile, clock) } };
}

/** A filter that cannot be compiled is said, and takes nothing else down. */
async function startRecords(otlp: OtlpSpec, parts: ExportsParts): Promise<OtlpLogs | undefined> {
  const { includeFilters, excludeFilters, fieldMask, target } = otlp;
  try {
    const engines = await loadEngines([...includeFilters, ...excludeFilters]);
    return new OtlpLogs({
      ...parts,
      target,
      passes: compileFilters(includeFilters, excludeFilters, engines),
      ...(fieldMask.length === 0 ? {} : { mask: compileFieldMask<Flow>(Flow.name, fieldMask) }),
    });
  } catch (error) {
    parts.health.ok("export otlp", `off: ${errorText(error)}`);
    parts.log.error("Cannot send flows", { endpoint: target.endpoint, error });
    return undefined;
  }
}
