/**
 * Flows as Hubble prints them (`hubble observe -o jsonpb`, and the files that its exporter writes): one JSON object a line. A line says one of
 *
 *     {"flow": {...}, "node_name": "...", "time": "..."}      {"lost_events": {...}}      {"node_status": {...}}
 *     {"time": "...", "verdict": "FORWARDED", ...}            a flow by itself, as older versions print it
 *     {"agent_event": {...}}, {"debug_event": {...}}          what is no packet
 *
 * @module
 */
import { PROTOCOL_NUMBERS } from "@weir/common";
import { readEndFacts, RecordError } from "./recorded_end.ts";
import type { FlowFacts } from "./recorder.ts";

/** What one line says. */
export type Line =
  | { readonly type: "flow"; readonly flow: FlowFacts; readonly allowedBy: readonly PolicyName[] }
  /** Events that never came, and where they were lost. */
  | { readonly type: "lost"; readonly source: string; readonly count: number }
  /** Nodes that were away. */
  | { readonly type: "nodes"; readonly state: string; readonly names: readonly string[] }
  | { readonly type: "other" };

/** A policy that flows name. */
export interface PolicyName {
  readonly namespace: string;
  readonly name: string;
}

const TYPES: ReadonlySet<string> = new Set(["L3_L4", "L7", "SOCK"]);
/** Reasons of a drop that are policy's: denied by default, by a rule, and because of authentication. */
const POLICY_REASONS: ReadonlySet<unknown> = new Set([
  133,
  181,
  189,
  "POLICY_DENIED",
  "POLICY_DENY",
  "AUTH_REQUIRED",
]);
const NO_NAMES: readonly string[] = [];

/** An object of JSON. */
export type Json = Record<string, unknown>;

/** Reads what `JSON.parse` made of a line. @throws {RecordError} */
export function readLine(value: unknown): Line {
  const line = objectOf(value, "the line");
  if (line.lost_events !== undefined) {
    const lost = objectOf(line.lost_events, "lost_events");
    // 64-bit numbers are texts in this JSON.
    const count = Number(lost.num_events_lost ?? 0);
    if (!Number.isFinite(count) || count < 0) {
      throw new RecordError("lost_events.num_events_lost", lost.num_events_lost, "a number");
    }
    return { type: "lost", source: text(lost.source, "lost_events.source"), count };
  }
  if (line.node_status !== undefined) {
    const status = objectOf(line.node_status, "node_status");
    const state = text(status.state_change, "node_status.state_change");
    return { type: "nodes", state, names: texts(status.node_names, "node_status.node_names") };
  }
  const given = line.flow ?? (line.verdict === undefined ? undefined : line);
  if (given === undefined) {
    const isEvent = line.agent_event !== undefined || line.debug_event !== undefined;
    if (isEvent) return { type: "other" };
    throw new RecordError("the line", "without a flow", "one of Hubble's flow, lost_events, node_status");
  }
  const flow = objectOf(given, "flow"), nodeName = flow.node_name ?? line.node_name;
  const ends: FlowEnds = {
    source: readEndFacts(flow.source, "flow.source"),
    destination: readEndFacts(flow.destination, "flow.destination"),
  };
  return readParts(
    flow.time === undefined ? { ...flow, time: line.time } : flow,
    ends,
    readContext({ ...flow, node_name: nodeName }),
  );
}

type FlowEnds = Pick<FlowFacts, "source" | "destination">;

/** What many flows have alike: all but time, verdict, addresses and ports, and ends. */
export interface FlowContext extends
  Pick<
    FlowFacts,
    | "node"
    | "type"
    | "isRelated"
    | "direction"
    | "toService"
    | "sourceNames"
    | "destinationNames"
    | "http"
    | "dns"
  > {
  readonly isReply: boolean | undefined;
  readonly isPolicyDrop: boolean;
  readonly allowedBy: readonly PolicyName[];
}

/** Reads the fields of a flow that {@link FlowContext} is about. @throws {RecordError} */
export function readContext(flow: Json): FlowContext {
  const type = text(flow.Type, "flow.Type") || "L3_L4", direction = flow.traffic_direction;
  const l7 = optional(flow.l7, "flow.l7"), isRequest = l7?.type === "REQUEST";
  const names = (value: unknown, path: string) => value === undefined ? NO_NAMES : texts(value, path);
  return {
    node: text(flow.node_name, "flow.node_name"),
    type: (TYPES.has(type) ? type : "L3_L4") as FlowFacts["type"],
    isRelated: flow.trace_reason === "RELATED",
    direction: direction === "INGRESS" || direction === "EGRESS" ? direction : "",
    toService: flow.destination_service !== undefined && flow.destination_service !== null,
    sourceNames: names(flow.source_names, "flow.source_names"),
    destinationNames: names(flow.destination_names, "flow.destination_names"),
    http: isRequest ? httpOf(optional(l7?.http, "flow.l7.http")) : undefined,
    dns: isRequest
      ? text(optional(l7?.dns, "flow.l7.dns")?.query, "flow.l7.dns.query") || undefined
      : undefined,
    isReply: replyOf(flow),
    isPolicyDrop: POLICY_REASONS.has(flow.drop_reason_desc),
    allowedBy: flow.egress_allowed_by === undefined && flow.ingress_allowed_by === undefined
      ? []
      : [...policies(flow.egress_allowed_by), ...policies(flow.ingress_allowed_by)],
  };
}

/** Reads the rest of a flow. @throws {RecordError} */
export function readParts(flow: Json, { source, destination }: FlowEnds, context: FlowContext): Line {
  const ip = optional(flow.IP, "flow.IP"), { time } = flow;
  const { protocol, sourcePort, destinationPort, syn } = transportOf(optional(flow.l4, "flow.l4"));
  const ms = typeof time === "string" ? Date.parse(time) : NaN;
  const { node, type, isRelated, direction, toService, sourceNames, destinationNames, http, dns } = context;
  return {
    type: "flow",
    flow: {
      ms: Number.isFinite(ms) ? ms : undefined,
      node,
      type,
      verdict: verdictOf(flow, context),
      source,
      destination,
      sourceIp: text(ip?.source, "flow.IP.source"),
      destinationIp: text(ip?.destination, "flow.IP.destination"),
      protocol,
      sourcePort,
      destinationPort,
      isReply: context.isReply ?? syn,
      isRelated,
      direction,
      toService,
      sourceNames,
      destinationNames,
      http,
      dns,
    },
    allowedBy: context.allowedBy,
  };
}

function verdictOf(flow: Json, { type, isPolicyDrop }: FlowContext): FlowFacts["verdict"] {
  switch (flow.verdict) {
    case "FORWARDED":
    case "REDIRECTED":
    case "AUDIT":
      return "passed";
    case "DROPPED":
      // A request was denied on a connection that was not.
      if (type === "L7") return "passed";
      return isPolicyDrop || POLICY_REASONS.has(flow.drop_reason) ? "denied" : "dropped";
    case "ERROR":
      return type === "L7" ? "passed" : "error";
    default:
      return "other";
  }
}

/** `is_reply` is absent of drops and where the datapath cannot tell; `reply` alone says nothing then. */
function replyOf(flow: Json): boolean | undefined {
  const given = flow.is_reply;
  if (typeof given === "boolean") return given;
  if (given !== undefined && given !== null) throw new RecordError("flow.is_reply", given, "true or false");
  return flow.reply === true ? true : undefined;
}

/** `syn`: true of an answer to a SYN, false of a SYN, undefined of others. */
function transportOf(
  l4: Json | undefined,
): { protocol: number; sourcePort: number; destinationPort: number; syn: boolean | undefined } {
  for (const name of ["TCP", "UDP", "SCTP"] as const) {
    const given = l4?.[name];
    if (given === undefined) continue;
    const ports = objectOf(given, `flow.l4.${name}`),
      flags = name === "TCP" ? ports.flags as Json | undefined : undefined;
    return {
      protocol: PROTOCOL_NUMBERS[name],
      sourcePort: port(ports.source_port, `flow.l4.${name}.source_port`, 65_535),
      destinationPort: port(ports.destination_port, `flow.l4.${name}.destination_port`, 65_535),
      syn: flags?.SYN === true ? flags.ACK === true : undefined,
    };
  }
  for (const name of ["ICMPv4", "ICMPv6"] as const) {
    const given = l4?.[name];
    if (given === undefined) continue;
    const type = port(objectOf(given, `flow.l4.${name}`).type, `flow.l4.${name}.type`, 255);
    const protocol = name === "ICMPv4" ? PROTOCOL_NUMBERS.ICMP : PROTOCOL_NUMBERS.ICMPV6;
    return { protocol, sourcePort: 0, destinationPort: type, syn: undefined };
  }
  return { protocol: 0, sourcePort: 0, destinationPort: 0, syn: undefined };
}

function httpOf(http: Json | undefined): string | undefined {
  if (http === undefined) return undefined;
  const method = text(http.method, "flow.l7.http.method"), url = text(http.url, "flow.l7.http.url");
  // The proxy's rules are about the path; the URL has scheme and host before it.
  const path = /^[a-z]+:\/\/[^/?#]*(.*)$/i.exec(url)?.[1] ?? url;
  return method === "" ? undefined : `${method} ${path === "" ? "/" : path}`.slice(0, 512);
}

function policies(value: unknown): PolicyName[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one) => {
    const { name, namespace } = (typeof one === "object" && one !== null ? one : {}) as Json;
    if (typeof name !== "string" || name === "" || name.length > 253) return [];
    return [{ name, namespace: typeof namespace === "string" ? namespace.slice(0, 253) : "" }];
  });
}

function objectOf(value: unknown, path: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new RecordError(path, value, "an object");
  }
  return value as Json;
}

function optional(value: unknown, path: string): Json | undefined {
  return value === undefined || value === null ? undefined : objectOf(value, path);
}

function text(value: unknown, path: string): string {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") throw new RecordError(path, value, "a text");
  return value;
}

function texts(value: unknown, path: string): readonly string[] {
  if (value === undefined || value === null) return NO_NAMES;
  if (!Array.isArray(value) || value.some((one) => typeof one !== "string")) {
    throw new RecordError(path, value, "a list of texts");
  }
  return value;
}

function port(value: unknown, path: string, max: number): number {
  const number = value ?? 0;
  if (typeof number !== "number" || !Number.isInteger(number) || number < 0 || number > max) {
    throw new RecordError(path, value, `a number up to ${max}`);
  }
  return number;
}
