/**
 * Query parameters of `GET /v1/flows` as a GetFlowsRequest: the names are those of `hubble observe`'s flags, so curl and
 * the command line say the same. An either-side parameter (`pod`, `label`, `ip`, ...) makes two filters, one with it as
 * the source and one as the destination; all others are copied into both.
 * @module
 */
import { FlowFilter, type TCPFlags, TrafficDirectionNumber, VerdictNumber } from "@weir/proto/flow";
import { GetAgentEventsRequest, type GetFlowsRequest } from "@weir/proto/observer";
import { DROP_REASONS, EVENT, EVENT_TYPES, TROUBLES } from "@weir/proto/numbers";
import type { Init } from "@weir/proto";
import { L7_EVENT } from "./application_filter.ts";
import { readIdentity } from "./flow_filter.ts";
import { assertNamespacesAgree, assertTogether } from "./query_conflicts.ts";
import { queryInvalid as bad } from "./query_invalid.ts";
import { readTime } from "./query_time.ts";

type Filter = Init<FlowFilter>;
type Values = readonly string[];

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
  "trace-sock": 7,
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
  ...["from-stack", "from-overlay", "from-network", "to-network", "from-crypto", "to-crypto"],
];
/** Kinds of events of the agent, by the number that Hubble's clients send. */
const AGENT_SUBTYPES: Readonly<Record<string, number>> = {
  "message": 1,
  "agent-started": 2,
  "endpoint-regenerate-success": 3,
  "endpoint-regenerate-failure": 4,
  "policy-updated": 5,
  "policy-deleted": 6,
  "endpoint-created": 7,
  "endpoint-deleted": 8,
  "ipcache-upserted": 9,
  "ipcache-deleted": 10,
};

/** "[KIND/]NAME". */
const workloads = (field: "source_workload" | "destination_workload") => (v: Values): Filter => ({
  [field]: v.map((text) => {
    const slash = text.indexOf("/");
    return { kind: slash < 0 ? "" : text.slice(0, slash), name: text.slice(slash + 1) };
  }),
});
const IP_VERSIONS: Readonly<Record<string, "IPv4" | "IPv6" | "IP_NOT_USED">> = {
  ...{ 4: "IPv4", v4: "IPv4", ip4: "IPv4", ipv4: "IPv4" },
  ...{ 6: "IPv6", v6: "IPv6", ip6: "IPv6", ipv6: "IPv6" },
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
      const version = IP_VERSIONS[x.toLowerCase()];
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
/** Names of all parameters that filter; each also with `not-` before it. */
export const FLOW_PARAMETERS: readonly string[] = [...Object.keys(PLAIN), ...Object.keys(EITHER)].sort();
const CONTROL = new Set([
  ...["watch", "follow", "first", "last", "all", "since", "until"],
  ...["allowlist", "denylist", "field-mask"],
]);

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
  const named = type === TYPES.trace
    ? TRACE_SUBTYPES.indexOf(sub)
    : type === TYPES.agent
    ? AGENT_SUBTYPES[sub] ?? -1
    : -1;
  const number = /^\d{1,9}$/.test(sub) ? Number(sub) : named;
  if (number < 0) {
    throw bad(
      "type",
      text,
      `trace:${TRACE_SUBTYPES.join("|")}, or agent:${Object.keys(AGENT_SUBTYPES).join("|")}`,
    );
  }
  return { type, match_sub_type: true, sub_type: number };
}

/** Any number of 64 bits: there are never as many flows. */
function readNumber(name: string, text: string): number {
  if (!/^\d{1,20}$/.test(text)) throw bad(name, text, "a whole number");
  return Math.min(Number(text), Number.MAX_SAFE_INTEGER);
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
  assertTogether(names);
  const build = (side: 0 | 1): Filter => {
    const filter: Filter = {};
    const given = new Map<string, string[]>();
    for (const name of names) {
      const meant = EITHER[name]?.[side] ?? name;
      given.set(meant, [...given.get(meant) ?? [], ...query.getAll(prefix + name)]);
    }
    assertNamespacesAgree(given);
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
    whitelist: [...filtersOf(query, ""), ...rawFilters(query, "allowlist")],
    blacklist: [...filtersOf(query, "not-"), ...rawFilters(query, "denylist")],
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
  const paths = query.getAll("field-mask").flatMap((text) => text.split(",")).filter((path) => path !== "");
  if (paths.length > 0) request.field_mask = { paths };
  return request;
}

/** Reads the parameters of `GET /v1/agent-events`: counts and times. @throws {ProblemError} QUERY_INVALID */
export function readEventsQuery(query: URLSearchParams, nowMs: number): GetAgentEventsRequest {
  const other = [...query.keys()].find((name) => !EVENTS_CONTROL.has(name));
  if (other !== undefined) throw bad(other, query.get(other)!, [...EVENTS_CONTROL].join(", "));
  const { number, first, follow, since, until } = readFlowsQuery(query, nowMs);
  return GetAgentEventsRequest.create({ number, first, follow, since, until });
}
const EVENTS_CONTROL = new Set(["watch", "follow", "first", "last", "all", "since", "until"]);

/** Filters as Hubble's FlowFilter in JSON, one after the other in each value. */
function rawFilters(query: URLSearchParams, name: "allowlist" | "denylist"): Filter[] {
  return query.getAll(name).flatMap((text) =>
    jsonTexts(text).map((one) => {
      try {
        return FlowFilter.fromJson(JSON.parse(one));
      } catch (error) {
        throw bad(name, text.slice(0, 200), `FlowFilter in JSON: ${(error as Error).message}`);
      }
    })
  );
}

/** Objects that stand one after the other: `{...}{...}`. What is none is left in one piece. */
function jsonTexts(text: string): string[] {
  const texts: string[] = [];
  let depth = 0, start = 0, inString = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (inString) {
      if (char === "\\") at++;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === "{") depth++;
    else if (char === "}" && --depth === 0) {
      texts.push(text.slice(start, at + 1));
      start = at + 1;
    }
  }
  const rest = text.slice(start);
  return rest.trim() === "" ? texts : [...texts, rest];
}
