/**
 * Query parameters of `GET /v1/flows` as a GetFlowsRequest: the names are those of `hubble observe`'s flags, so curl and
 * the command line say the same. An either-side parameter (`pod`, `label`, `ip`, ...) makes two filters, one with it as
 * the source and one as the destination; all others are copied into both.
 * @module
 */
import { ProblemError } from "@weir/common";
import { type FlowFilter, type TCPFlags, TrafficDirectionNumber, VerdictNumber } from "@weir/proto/flow";
import type { GetFlowsRequest } from "@weir/proto/observer";
import { DROP_REASONS, EVENT, EVENT_TYPES, TROUBLES } from "@weir/proto/numbers";
import type { Init } from "@weir/proto";
import { L7_EVENT } from "./application_filter.ts";
import { readIdentity } from "./flow_filter.ts";

type Filter = Init<FlowFilter>;
type Values = readonly string[];

function bad(name: string, value: string, expected: string): ProblemError {
  return new ProblemError("QUERY_INVALID", {
    status: 400,
    detail: `Cannot take ${name}=${value}: expected ${expected}`,
    found: value,
    expected,
  });
}

const list = (field: keyof FlowFilter) => (v: Values): Filter => ({ [field]: [...v] });
/** Names of a known set, in any case: a name that nobody knows would match nothing, silently. */
const oneOf = (name: string, field: keyof FlowFilter, known: readonly string[], expected: string) => {
  const names = new Set(known);
  return (v: Values): Filter => ({
    [field]: v.map((x) => {
      if (!names.has(x.toUpperCase())) throw bad(name, x, expected);
      return x.toUpperCase();
    }),
  });
};
const VERDICTS = Object.keys(VerdictNumber), DIRECTIONS = Object.keys(TrafficDirectionNumber);
const dropReasons = oneOf(
  "drop-reason-desc",
  "drop_reason_desc",
  DROP_REASONS.map(({ name }) => name),
  "a name as in weir bpf metrics list, such as POLICY_DENIED",
);
const namespaces = (field: "source_pod" | "destination_pod") => (v: Values): Filter => ({
  [field]: v.map((n) => `${n}/`),
});
const identities = (field: "source_identity" | "destination_identity") => (v: Values): Filter => ({
  [field]: v.map(readIdentity),
});
const TYPES: Record<string, number> = {
  drop: 1,
  debug: 2,
  capture: 3,
  trace: 4,
  "policy-verdict": 5,
  l7: L7_EVENT,
  agent: 130,
  trouble: EVENT.TROUBLE,
};
const TRACE_SUBTYPES = [
  ...[
    "to-endpoint",
    "to-proxy",
    "to-host",
    "to-stack",
    "to-overlay",
    "from-endpoint",
    "from-proxy",
    "from-host",
  ],
  ...["from-stack", "from-overlay", "from-network", "to-network"],
];

/** "[KIND/]NAME". */
const workloads = (field: "source_workload" | "destination_workload") => (v: Values): Filter => ({
  [field]: v.map((text) => {
    const slash = text.indexOf("/");
    return { kind: slash < 0 ? "" : text.slice(0, slash), name: text.slice(slash + 1) };
  }),
});
const IP_VERSIONS: Readonly<Record<string, "IPv4" | "IPv6" | "IP_NOT_USED">> = {
  4: "IPv4",
  v4: "IPv4",
  6: "IPv6",
  v6: "IPv6",
  none: "IP_NOT_USED",
};

/** Parameters that mean one thing. */
const PLAIN: Record<string, (v: Values) => Filter> = {
  "from-ip": list("source_ip"),
  "to-ip": list("destination_ip"),
  "from-pod": list("source_pod"),
  "to-pod": list("destination_pod"),
  "from-service": list("source_service"),
  "to-service": list("destination_service"),
  "from-namespace": namespaces("source_pod"),
  "to-namespace": namespaces("destination_pod"),
  "from-label": list("source_label"),
  "to-label": list("destination_label"),
  "from-port": list("source_port"),
  "to-port": list("destination_port"),
  "from-identity": identities("source_identity"),
  "to-identity": identities("destination_identity"),
  "from-fqdn": list("source_fqdn"),
  "to-fqdn": list("destination_fqdn"),
  "protocol": list("protocol"),
  "verdict": oneOf("verdict", "verdict", VERDICTS, VERDICTS.join(", ")),
  "drop-reason-desc": dropReasons,
  "drop-reason": dropReasons,
  "traffic-direction": oneOf("traffic-direction", "traffic_direction", DIRECTIONS, DIRECTIONS.join(", ")),
  "node-name": list("node_name"),
  "uuid": list("uuid"),
  "from-workload": workloads("source_workload"),
  "to-workload": workloads("destination_workload"),
  "from-cluster": list("source_cluster_name"),
  "to-cluster": list("destination_cluster_name"),
  "snat-ip": list("source_ip_xlated"),
  "node-label": list("node_labels"),
  "interface": (v) => ({ interface: v.map((name) => ({ name })) }),
  "http-status": list("http_status_code"),
  "http-method": list("http_method"),
  "http-path": list("http_path"),
  "http-url": list("http_url"),
  "http-header": (v) => ({ http_header: v.map(readHeader) }),
  "dns-query": list("dns_query"),
  "trace-id": list("trace_id"),
  "ip-trace-id": (v) => ({ ip_trace_id: v.map(readTraceId) }),
  "encrypted": (v) => ({ encrypted: v.map((x) => readFlag("encrypted", x)) }),
  "cel-expression": (v) => ({ experimental: { cel_expression: [...v] } }),
  "tcp-flags": (v) => ({ tcp_flags: v.map(readTcpFlags) }),
  "ip-version": (v) => ({
    ip_version: v.map((x) => {
      const version = IP_VERSIONS[x];
      if (version === undefined) throw bad("ip-version", x, "4, 6 or none");
      return version;
    }),
  }),
  "type": (v) => ({ event_type: v.map(readType) }),
  "reply": (v) => ({ reply: v.map((x) => readFlag("reply", x)) }),
};

/** Either side: parameter -> the two one-sided ones. */
const EITHER: Record<string, [source: string, destination: string]> = {
  "ip": ["from-ip", "to-ip"],
  "pod": ["from-pod", "to-pod"],
  "service": ["from-service", "to-service"],
  "namespace": ["from-namespace", "to-namespace"],
  "label": ["from-label", "to-label"],
  "port": ["from-port", "to-port"],
  "identity": ["from-identity", "to-identity"],
  "fqdn": ["from-fqdn", "to-fqdn"],
  "workload": ["from-workload", "to-workload"],
  "cluster": ["from-cluster", "to-cluster"],
};
const CONTROL = new Set(["watch", "follow", "first", "last", "all", "since", "until"]);

/** "SYN,ACK": all of them. @throws {ProblemError} for a flag that there is not */
function readTcpFlags(text: string): Init<TCPFlags> {
  const names = text.split(",").map((name) => name.trim().toUpperCase());
  if (names.some((name) => !TCP_FLAGS.includes(name))) throw bad("tcp-flags", text, TCP_FLAGS.join(", "));
  return Object.fromEntries(names.map((name) => [name, true]));
}
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS"];

function readFlag(name: string, text: string): boolean {
  if (text !== "true" && text !== "false") throw bad(name, text, "true or false");
  return text === "true";
}

/** "KEY:VALUE". */
function readHeader(text: string): { key: string; value: string } {
  const colon = text.indexOf(":");
  if (colon < 1) throw bad("http-header", text, "KEY:VALUE");
  return { key: text.slice(0, colon), value: text.slice(colon + 1) };
}

function readTraceId(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw bad("ip-trace-id", text, "a number above 0");
  return Number(text);
}

function readType(text: string): { type: number; match_sub_type?: boolean; sub_type?: number } {
  const trouble = TROUBLES.find((row) => row.text === text);
  if (trouble) return { type: EVENT.TROUBLE, match_sub_type: true, sub_type: trouble.number };
  const [name, sub] = text.split(":");
  const type = /^\d+$/.test(name) ? Number(name) : TYPES[name];
  if (type === undefined) {
    throw bad(
      "type",
      text,
      [...Object.keys(TYPES), ...TROUBLES.map((row) => row.text)].join(", "),
    );
  }
  if (sub === undefined) return { type };
  const number = /^\d+$/.test(sub) ? Number(sub) : TRACE_SUBTYPES.indexOf(sub);
  if (number < 0 || (type !== TYPES.trace && !/^\d+$/.test(sub))) {
    throw bad("type", text, `trace:${TRACE_SUBTYPES.join("|")}`);
  }
  return { type, match_sub_type: true, sub_type: number };
}

function readNumber(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw bad(name, text, "a whole number");
  return Number(text);
}

/** RFC 3339, or a duration back from now such as 30s, 4m, 1h30m. */
export function readTime(name: string, text: string, nowMs: number): { seconds: number; nanos: number } {
  let ms = Date.parse(text);
  if (/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) {
    const unit: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
    ms = nowMs -
      [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)].reduce(
        (sum, m) => sum + Number(m[1]) * unit[m[2]],
        0,
      );
  }
  if (Number.isNaN(ms)) throw bad(name, text, "an RFC 3339 time, or how long ago (30s, 4m, 1h30m)");
  return { seconds: Math.floor(ms / 1000), nanos: Math.floor(ms % 1000) * 1_000_000 };
}

/** Names without a namespace of their own get these. */
function inNamespaces(names: Values, namespaces: Values): string[] {
  return names.flatMap((name) => name.includes("/") ? [name] : namespaces.map((n) => `${n}/${name}`));
}

/** One side's parameters as filters: two where an either-side one is among them. */
function filtersOf(query: URLSearchParams, prefix: string): Filter[] {
  const names = [...new Set(query.keys())].filter((n) =>
    prefix === "" ? !n.startsWith("not-") : n.startsWith(prefix)
  )
    .map((n) => n.slice(prefix.length)).filter((n) => prefix !== "" || !CONTROL.has(n));
  if (names.length === 0) return [];
  const either = names.filter((n) => EITHER[n]);
  const build = (side: 0 | 1): Filter => {
    const filter: Filter = {};
    const given = new Map(names.map((name) => [EITHER[name]?.[side] ?? name, query.getAll(prefix + name)]));
    for (const [name, values] of given) {
      const make = PLAIN[name];
      if (!make) {
        throw bad(
          name,
          values[0] ?? "",
          `one of ${[...Object.keys(PLAIN), ...Object.keys(EITHER)].join(", ")}`,
        );
      }
      const [end, what] = [name.slice(0, name.indexOf("-")), name.slice(name.indexOf("-") + 1)];
      // A namespace beside a pod or service says where that is; it is no second pod.
      if (what === "namespace" && (given.has(`${end}-pod`) || given.has(`${end}-service`))) continue;
      const namespaces = what === "pod" || what === "service" ? given.get(`${end}-namespace`) : undefined;
      Object.assign(filter, make(namespaces ? inNamespaces(values, namespaces) : values));
    }
    return filter;
  };
  return either.length === 0 ? [build(0)] : [build(0), build(1)];
}

const RAW_TYPES = [...EVENT_TYPES.map(({ text }) => text), "lost"];

/** Reads the kinds of `GET /v1/events`; none means all. @throws {ProblemError} QUERY_INVALID */
export function readEventTypes(types: readonly string[]): readonly string[] {
  for (const type of types) if (!RAW_TYPES.includes(type)) throw bad("type", type, RAW_TYPES.join(", "));
  return types;
}

/** Reads the parameters; `not-<name>` puts a filter on the blacklist. @throws {ProblemError} QUERY_INVALID */
export function readFlowsQuery(query: URLSearchParams, nowMs: number): Init<GetFlowsRequest> {
  const request: Init<GetFlowsRequest> = {
    whitelist: filtersOf(query, ""),
    blacklist: filtersOf(query, "not-"),
    follow: query.get("watch") === "true" || query.get("follow") === "true",
  };
  const [first, last, since, until] = ["first", "last", "since", "until"].map((n) => query.get(n));
  if (first !== null) {
    request.first = true;
    request.number = readNumber("first", first);
  } else if (last !== null) request.number = readNumber("last", last);
  else if (query.get("all") === "true") request.number = Number.MAX_SAFE_INTEGER;
  if (since !== null) request.since = readTime("since", since, nowMs);
  if (until !== null) request.until = readTime("until", until, nowMs);
  return request;
}
