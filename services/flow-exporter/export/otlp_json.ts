/**
 * Flows and metrics in OTLP's JSON encoding (opentelemetry-proto: protobuf's JSON mapping in lowerCamelCase, 64-bit integers as
 * texts, enums as numbers, trace ids in hexadecimal). Attributes have the names of OpenTelemetry's semantic conventions where there
 * are some.
 * @module
 */
import { WEIR_VERSION } from "@weir/common";
import type { Flow } from "@weir/proto/flow";
import type { Family, Point } from "./prometheus_text.ts";

type Value = { stringValue: string } | { intValue: string } | { boolValue: boolean };
/** A name and its value. */
export interface Attribute {
  readonly key: string;
  readonly value: Value;
}

const SCOPE = { name: "weir", version: WEIR_VERSION };
/** SeverityNumber of opentelemetry-proto. */
const INFO = 9, WARN = 13;
const CUMULATIVE = 2;

const text = (key: string, value: string | undefined): Attribute[] =>
  value === undefined || value === "" ? [] : [{ key, value: { stringValue: value } }];
const whole = (key: string, value: number | undefined): Attribute[] =>
  value === undefined || value === 0 ? [] : [{ key, value: { intValue: `${value}` } }];

/** Who sends: the service of this node. */
export function resourceOf(service: string, nodeName: string): { attributes: Attribute[] } {
  return {
    attributes: [
      ...text("service.name", `weir-${service}`),
      ...text("service.version", WEIR_VERSION),
      ...text("host.name", nodeName),
    ],
  };
}

/** Nanoseconds as OTLP's JSON has them. */
export function nanosOf({ seconds, nanos }: { seconds: number; nanos: number }): string {
  return seconds <= 0 ? `${nanos}` : `${seconds}${`${nanos}`.padStart(9, "0")}`;
}

/** Milliseconds as nanoseconds. */
export const nanosOfMs = (ms: number): string => `${BigInt(Math.floor(ms)) * 1_000_000n}`;

/**
 * A flow as a log record, in JSON.
 * @param body the flow's JSON, with the fields that are wanted
 */
export function flowRecord(flow: Flow, body: string, nowMs: number): string {
  const { time, verdict, IP, l4, source, destination, trace_context } = flow;
  const tcpOrUdp = l4?.TCP ?? l4?.UDP ?? l4?.SCTP;
  const transport = l4?.TCP
    ? "tcp"
    : l4?.UDP
    ? "udp"
    : l4?.SCTP
    ? "sctp"
    : l4?.ICMPv4 || l4?.ICMPv6
    ? "icmp"
    : "";
  const isBad = verdict === "DROPPED" || verdict === "ERROR";
  const traceId = trace_context?.parent?.trace_id ?? "";
  const end = (name: "source" | "destination", one: typeof source) => [
    ...text(`hubble.${name}.namespace`, one?.namespace),
    ...text(`hubble.${name}.pod_name`, one?.pod_name),
    ...text(`hubble.${name}.workload`, one?.workloads?.[0]?.name),
    ...whole(`hubble.${name}.identity`, one?.identity),
  ];
  return JSON.stringify({
    timeUnixNano: time === undefined ? nanosOfMs(nowMs) : nanosOf(time),
    observedTimeUnixNano: nanosOfMs(nowMs),
    severityNumber: isBad ? WARN : INFO,
    severityText: isBad ? "WARN" : "INFO",
    eventName: "hubble.flow",
    body: { stringValue: body },
    attributes: [
      ...text("hubble.verdict", verdict),
      ...text("hubble.drop_reason", verdict === "DROPPED" ? flow.drop_reason_desc : ""),
      ...text(
        "hubble.traffic_direction",
        flow.traffic_direction === "TRAFFIC_DIRECTION_UNKNOWN" ? "" : flow.traffic_direction,
      ),
      ...text("network.transport", transport),
      ...text(
        "network.type",
        IP?.ipVersion === "IPv4" || IP?.ipVersion === "IPv6" ? IP.ipVersion.toLowerCase() : "",
      ),
      ...text("source.address", IP?.source),
      ...whole("source.port", tcpOrUdp?.source_port),
      ...text("destination.address", IP?.destination),
      ...whole("destination.port", tcpOrUdp?.destination_port),
      ...end("source", source),
      ...end("destination", destination),
    ],
    ...(/^[0-9a-f]{32}$/.test(traceId) ? { traceId } : {}),
  });
}

/** The record that says how many flows the export was too slow for. */
export function lostRecord(count: number, nowMs: number): string {
  return JSON.stringify({
    timeUnixNano: nanosOfMs(nowMs),
    observedTimeUnixNano: nanosOfMs(nowMs),
    severityNumber: WARN,
    severityText: "WARN",
    eventName: "hubble.lost_events",
    body: { stringValue: `${count} flows were lost: they came faster than they could be sent` },
    attributes: whole("hubble.num_events_lost", count),
  });
}

/** An ExportLogsServiceRequest of ready records. */
export function logsRequest(resource: unknown, records: readonly string[]): string {
  const [before, after] = JSON.stringify({
    resourceLogs: [{ resource, scopeLogs: [{ scope: SCOPE, logRecords: ["\0"] }] }],
  }).split('"\\u0000"');
  return before + records.join() + after;
}

/**
 * ExportMetricsServiceRequests of what Prometheus would read, with at most `pointsMax` points each.
 * @param startMs since when counters count, undefined when that is not known
 */
export function metricsRequests(
  resource: unknown,
  families: readonly Family[],
  { startMs, nowMs, pointsMax }: { startMs: number | undefined; nowMs: number; pointsMax: number },
): string[] {
  const times = {
    ...(startMs === undefined ? {} : { startTimeUnixNano: nanosOfMs(startMs) }),
    timeUnixNano: nanosOfMs(nowMs),
  };
  const requests: unknown[][] = [];
  let room = 0;
  for (const { name, help, kind, points } of families) {
    for (let at = 0; at < points.length;) {
      if (room === 0) {
        requests.push([]);
        room = pointsMax;
      }
      const part = points.slice(at, at + room);
      const dataPoints = part.map((point) => dataPoint(point, times));
      requests.at(-1)!.push({
        name,
        description: help,
        ...(kind === "histogram"
          ? { histogram: { aggregationTemporality: CUMULATIVE, dataPoints } }
          : kind === "counter"
          ? { sum: { aggregationTemporality: CUMULATIVE, isMonotonic: true, dataPoints } }
          : { gauge: { dataPoints } }),
      });
      at += part.length;
      room -= part.length;
    }
  }
  return requests.map((metrics) =>
    JSON.stringify({ resourceMetrics: [{ resource, scopeMetrics: [{ scope: SCOPE, metrics }] }] })
  );
}

function dataPoint(point: Point, times: Record<string, string>): unknown {
  const attributes = point.labels.map(([key, value]) => ({ key, value: { stringValue: value } }));
  if (point.buckets === undefined) return { attributes, ...times, asDouble: point.value };
  const { buckets, sum, count } = point;
  // Prometheus counts what is at most a bound, OTLP what is between two.
  const bounded = buckets.filter(([bound]) => bound !== Infinity).sort(([a], [b]) => a - b);
  const counts = [...bounded.map(([, below]) => below), count].map((below, i, all) =>
    below - (all[i - 1] ?? 0)
  );
  return {
    attributes,
    ...times,
    count: `${count}`,
    sum,
    bucketCounts: counts.map((each) => `${Math.max(0, each)}`),
    explicitBounds: bounded.map(([bound]) => bound),
  };
}
