/**
 * Hubble's FlowFilter: within one filter every field that is set must match, within a field any value; a flow passes
 * when any filter of the whitelist matches (or there is none) and none of the blacklist. A filter that cannot be read is
 * an error, never a filter that matches nothing.
 * @module
 */
import {
  IpAddress,
  parseSelector,
  Prefix,
  ProblemError,
  reservedIdentityNumber,
  type Selector,
  SelectorError,
  selectsTexts,
} from "@weir/common";
import type { Endpoint, Flow, FlowFilter, Service, TCPFlags, Workload } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { APPLICATION_FIELDS, checkHttp } from "./application_filter.ts";
import { type FilterEngines, filterInvalid as bad, NO_ENGINES } from "./filter_engines.ts";

/** Says whether a flow passes. */
export type FlowPredicate = (flow: Flow) => boolean;

/** More filters than this in one request are refused. */
export const FILTERS_MAX = 256;
/** More values than this in one field are refused. */
export const FILTER_VALUES_MAX = 1024;

/** Compiles both lists. @throws {ProblemError} FILTER_INVALID */
export function compileFilters(
  whitelist: readonly Init<FlowFilter>[],
  blacklist: readonly Init<FlowFilter>[],
  engines: FilterEngines = NO_ENGINES,
): FlowPredicate {
  if (whitelist.length + blacklist.length > FILTERS_MAX) {
    throw bad("number of filters", whitelist.length + blacklist.length, `at most ${FILTERS_MAX}`);
  }
  const compile = (filter: Init<FlowFilter>) => compileFilter(filter, engines);
  const allow = whitelist.map(compile), deny = blacklist.map(compile);
  return (flow) => (allow.length === 0 || allow.some((f) => f(flow))) && !deny.some((f) => f(flow));
}

type FieldCompiler<V> = (values: V[], engines: FilterEngines) => FlowPredicate;

/** Field -> how its values become a predicate. A field that is not here is refused by name. */
const FIELDS: { [K in keyof FlowFilter]?: FieldCompiler<never> } = {
  source_ip: compileIp("source_ip", (f) => f.IP?.source) as FieldCompiler<never>,
  destination_ip: compileIp("destination_ip", (f) => f.IP?.destination) as FieldCompiler<never>,
  source_ip_xlated: compileIp("source_ip_xlated", (f) => f.IP?.source_xlated) as FieldCompiler<never>,
  source_pod: compilePod("source_pod", (f) => f.source) as FieldCompiler<never>,
  destination_pod: compilePod("destination_pod", (f) => f.destination) as FieldCompiler<never>,
  source_service: compileService("source_service", (f) => f.source_service) as FieldCompiler<never>,
  destination_service: compileService("destination_service", (f) => f.destination_service) as FieldCompiler<
    never
  >,
  source_workload: compileWorkload((f) => f.source) as FieldCompiler<never>,
  destination_workload: compileWorkload((f) => f.destination) as FieldCompiler<never>,
  source_label: compileLabels("source_label", (f) => f.source?.labels) as FieldCompiler<never>,
  destination_label: compileLabels("destination_label", (f) => f.destination?.labels) as FieldCompiler<never>,
  node_labels: compileLabels("node_labels", (f) => f.node_labels) as FieldCompiler<never>,
  source_identity: compileIdentity((f) => f.source) as FieldCompiler<never>,
  destination_identity: compileIdentity((f) => f.destination) as FieldCompiler<never>,
  source_cluster_name: compileText((f) => f.source?.cluster_name) as FieldCompiler<never>,
  destination_cluster_name: compileText((f) => f.destination?.cluster_name) as FieldCompiler<never>,
  source_fqdn: compileFqdn("source_fqdn", (f) => f.source_names) as FieldCompiler<never>,
  destination_fqdn: compileFqdn("destination_fqdn", (f) => f.destination_names) as FieldCompiler<never>,
  source_port: compilePort("source_port", (t) => t.source_port) as FieldCompiler<never>,
  destination_port: compilePort("destination_port", (t) => t.destination_port) as FieldCompiler<never>,
  protocol: compileProtocol as FieldCompiler<never>,
  tcp_flags: compileTcpFlags as FieldCompiler<never>,
  verdict: compileText((f) => f.verdict) as FieldCompiler<never>,
  drop_reason_desc:
    ((values: string[]) => (f: Flow) =>
      f.verdict === "DROPPED" && values.includes(f.drop_reason_desc)) as FieldCompiler<never>,
  traffic_direction: compileText((f) => f.traffic_direction) as FieldCompiler<never>,
  ip_version:
    ((values: string[]) => (f: Flow) => values.includes(f.IP?.ipVersion ?? "IP_NOT_USED")) as FieldCompiler<
      never
    >,
  event_type:
    ((values: Init<{ type: number; match_sub_type: boolean; sub_type: number }>[]) => (f: Flow) =>
      f.event_type !== undefined &&
      values.some((v) =>
        ((v.type ?? 0) === 0 || f.event_type!.type === v.type) &&
        (!v.match_sub_type || f.event_type!.sub_type === (v.sub_type ?? 0))
      )) as FieldCompiler<never>,
  // is_reply is unknown for drops and for some traces; Hubble takes it as false for drops only.
  reply: ((values: boolean[]) => (f: Flow) => {
    if (f.is_reply === undefined) return f.verdict === "DROPPED" && values.includes(false);
    return values.includes(f.is_reply.value);
  }) as FieldCompiler<never>,
  uuid: compileText((f) => f.uuid) as FieldCompiler<never>,
  node_name: compileNodeName as FieldCompiler<never>,
  ...APPLICATION_FIELDS,
  interface:
    ((values: Init<{ name: string; index: number }>[]) => (f: Flow) =>
      values.some((v) =>
        f.interface !== undefined && (!v.name || v.name === f.interface.name) &&
        (!v.index || v.index === f.interface.index)
      )) as FieldCompiler<never>,
};

function compileFilter(filter: Init<FlowFilter>, engines: FilterEngines): FlowPredicate {
  checkHttp(filter);
  const parts: FlowPredicate[] = [];
  for (const [field, value] of Object.entries(filter)) {
    const values = Array.isArray(value) ? value : value === undefined || value === null ? [] : [value];
    if (values.length === 0) continue;
    if (values.length > FILTER_VALUES_MAX) {
      throw bad(field, values.length, `at most ${FILTER_VALUES_MAX} values`);
    }
    const compile = FIELDS[field as keyof FlowFilter];
    if (!compile) {
      throw new ProblemError("FILTER_NOT_SUPPORTED", {
        status: 400,
        detail: `Cannot filter by ${field}: it is not supported yet`,
        found: field,
        expected: Object.keys(FIELDS).join(", "),
      });
    }
    parts.push(compile(values as never[], engines));
  }
  return (flow) => parts.every((p) => p(flow));
}

function compileText(get: (f: Flow) => string | undefined): FieldCompiler<string> {
  return (values) => {
    const wanted = new Set(values);
    return (flow) => wanted.has(get(flow) ?? "");
  };
}

function compileIp(field: string, get: (f: Flow) => string | undefined): FieldCompiler<string> {
  return (values) => {
    const exact = new Set<string>();
    const prefixes: Prefix[] = [];
    for (const value of values) {
      if (value.includes("/")) {
        const prefix = Prefix.tryParse(value);
        if (!prefix) throw bad(field, value, "an address or a CIDR");
        prefixes.push(prefix);
      } else {
        const address = IpAddress.tryParse(value);
        if (!address) throw bad(field, value, "an address or a CIDR");
        exact.add(address.text);
      }
    }
    return (flow) => {
      const text = get(flow);
      if (!text) return false;
      if (exact.has(text)) return true;
      if (prefixes.length === 0) return false;
      const address = IpAddress.tryParse(text);
      return address !== undefined && prefixes.some((p) => p.contains(address));
    };
  };
}

/** "[ns/]prefix": no slash means the namespace default, "ns/" every name there, "/p" every namespace. */
function namePrefix(field: string, value: string): (namespace: string, name: string) => boolean {
  if (value === "") throw bad(field, value, "[namespace/]name");
  const slash = value.indexOf("/");
  const namespace = slash < 0 ? "default" : value.slice(0, slash);
  const prefix = slash < 0 ? value : value.slice(slash + 1);
  return (ns, name) => (namespace === "" || ns === namespace) && name.startsWith(prefix);
}

function compilePod(field: string, get: (f: Flow) => Endpoint | undefined): FieldCompiler<string> {
  return (values) => {
    const any = values.map((v) => namePrefix(field, v));
    return (flow) => {
      const endpoint = get(flow);
      if (!endpoint || (endpoint.namespace === "" && endpoint.pod_name === "")) return false;
      return any.some((m) => m(endpoint.namespace, endpoint.pod_name));
    };
  };
}

function compileService(field: string, get: (f: Flow) => Service | undefined): FieldCompiler<string> {
  return (values) => {
    const any = values.map((v) => namePrefix(field, v));
    return (flow) => {
      const service = get(flow);
      return service !== undefined && any.some((m) => m(service.namespace, service.name));
    };
  };
}

function compileWorkload(get: (f: Flow) => Endpoint | undefined): FieldCompiler<Init<Workload>> {
  return (values) => (flow) =>
    get(flow)?.workloads.some((w) =>
      values.some((v) => (!v.name || v.name === w.name) && (!v.kind || v.kind === w.kind))
    ) ??
      false;
}

function compileLabels(field: string, get: (f: Flow) => string[] | undefined): FieldCompiler<string> {
  return (values) => {
    const any = values.map((value) => readSelector(field, value));
    return (flow) => {
      const labels = get(flow) ?? [];
      return any.some((selector) => selectsTexts(selector, labels));
    };
  };
}

function readSelector(field: string, value: string): Selector {
  try {
    return parseSelector(value);
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    throw bad(field, value, `a selector: ${error.expected}`);
  }
}

function compileIdentity(get: (f: Flow) => Endpoint | undefined): FieldCompiler<number> {
  return (values) => {
    const wanted = new Set(values);
    return (flow) => wanted.has(get(flow)?.identity ?? -1);
  };
}

/** Reads an identity as people write it: a number or a reserved name. @throws {ProblemError} */
export function readIdentity(text: string): number {
  const number = /^\d{1,10}$/.test(text) ? Number(text) : reservedIdentityNumber(text);
  if (number === undefined || number > 0xffffffff) {
    throw bad("identity", text, "a number or a reserved name such as world");
  }
  return number;
}

/** `*` stands for any run of name characters. The pattern is written in lower case without the last dot, names are as they are. */
function compileFqdn(field: string, get: (f: Flow) => string[]): FieldCompiler<string> {
  return (values) => {
    const any = values.map((value) => {
      const text = value.toLowerCase().replace(/\.$/, "");
      if (!/^[-.*_0-9a-z]+$/.test(text)) throw bad(field, value, "letters, digits, - . and *");
      return wildcard(text, /[-.0-9a-z]/);
    });
    return (flow) => get(flow).some((name) => any.some((m) => m.test(name)));
  };
}

/** Matches a pattern with `*` for any run of a character class, in time proportional to both lengths' product. */
function wildcard(pattern: string, characters: RegExp): { test(text: string): boolean } {
  return {
    test(text) {
      let p = 0, star = -1, resume = 0;
      for (let t = 0; t < text.length;) {
        if (pattern[p] === "*") {
          star = p++;
          resume = t;
        } else if (pattern[p] === text[t]) {
          p++;
          t++;
        } else if (star >= 0 && characters.test(text[resume])) {
          p = star + 1;
          t = ++resume;
        } else return false;
      }
      while (pattern[p] === "*") p++;
      return p === pattern.length;
    },
  };
}

function compilePort(
  field: string,
  get: (t: { source_port: number; destination_port: number }) => number,
): FieldCompiler<string> {
  return (values) => {
    const wanted = new Set(values.map((value) => {
      if (!/^\d{1,5}$/.test(value) || Number(value) > 65535) throw bad(field, value, "0 to 65535");
      return Number(value);
    }));
    return ({ l4 }) => {
      const transport = l4?.TCP ?? l4?.UDP ?? l4?.SCTP;
      return transport !== undefined && wanted.has(get(transport));
    };
  };
}

const PROTOCOLS: Record<string, FlowPredicate> = {
  icmp: (f) => f.l4?.ICMPv4 !== undefined || f.l4?.ICMPv6 !== undefined,
  icmpv4: (f) => f.l4?.ICMPv4 !== undefined,
  icmpv6: (f) => f.l4?.ICMPv6 !== undefined,
  tcp: (f) => f.l4?.TCP !== undefined,
  udp: (f) => f.l4?.UDP !== undefined,
  sctp: (f) => f.l4?.SCTP !== undefined,
  vrrp: (f) => f.l4?.VRRP !== undefined,
  igmp: (f) => f.l4?.IGMP !== undefined,
  dns: (f) => f.l7?.dns !== undefined,
  http: (f) => f.l7?.http !== undefined,
  kafka: (f) => f.l7?.kafka !== undefined,
};

function compileProtocol(values: string[]): FlowPredicate {
  const any = values.map((value) => {
    const match = PROTOCOLS[value.toLowerCase()];
    if (!match) throw bad("protocol", value, Object.keys(PROTOCOLS).join(", "));
    return match;
  });
  return (flow) => any.some((m) => m(flow));
}

function compileTcpFlags(values: Init<TCPFlags>[]): FlowPredicate {
  const any = values.map((value) =>
    Object.keys(value).filter((k) => value[k as keyof TCPFlags]) as (keyof TCPFlags)[]
  );
  return ({ l4 }) => {
    const flags = l4?.TCP?.flags;
    return flags !== undefined && any.some((wanted) => wanted.every((name) => flags[name]));
  };
}

/** "[cluster/]node" with `*`; a bare node name of a flow is in the cluster default. */
function compileNodeName(values: string[]): FlowPredicate {
  const any = values.map((value) => {
    const text = value.includes("/") ? value : `*/${value}`;
    if (value === "" || !/^[-.*_0-9A-Za-z/]+$/.test(value)) {
      throw bad("node_name", value, "[cluster/]node with *");
    }
    return wildcard(text.endsWith("/") ? `${text}*` : text, /[-._0-9A-Za-z]/);
  });
  return (flow) => {
    const name = flow.node_name.includes("/") ? flow.node_name : `default/${flow.node_name}`;
    return any.some((m) => m.test(name));
  };
}
