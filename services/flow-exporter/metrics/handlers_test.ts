import { deepEqual, equal } from "node:assert/strict";
import type { Init } from "@weir/proto";
import type { Flow } from "@weir/proto/flow";
import { madeFlow, metricsOf, seriesOf } from "./testing.ts";

/** A case: what is enabled, the flows, and the series that they make. */
type Case = [name: string, options: string, flows: Init<Flow>[], series: string[]];

const DROP: Init<Flow> = {
  verdict: "DROPPED",
  event_type: { type: 1, sub_type: 133 },
  drop_reason_desc: "POLICY_DENIED",
};
const WORLD = { identity: 2, labels: ["reserved:world"] };
const tcp = (flags: Record<string, boolean>): Init<Flow> => ({
  l4: { TCP: { source_port: 1, destination_port: 5432, flags } },
});
const dns = (more: Init<Flow>, rcode = 0): Init<Flow> => ({
  event_type: { type: 129, sub_type: 0 },
  l7: {
    type: "RESPONSE",
    dns: { query: "db.shop.", rcode, qtypes: ["A"], ips: ["10.0.2.7", "10.0.2.8"], rrtypes: ["CNAME", "A"] },
  },
  ...more,
});
const http = (type: "REQUEST" | "RESPONSE", more: Init<Flow> = {}): Init<Flow> => ({
  event_type: { type: 129, sub_type: 0 },
  l7: {
    type,
    latency_ns: 30_000_000,
    http: { code: type === "RESPONSE" ? 503 : 0, method: "GET", url: "http://db/", protocol: "HTTP/1.1" },
  },
  ...more,
});
/** An answer goes the other way than its question. */
const ANSWER: Init<Flow> = { source: madeFlow().destination, destination: madeFlow().source };

const CASES: Case[] = [
  ["flow: type, subtype, verdict and protocol of each kind", "flow", [
    {},
    { event_type: { type: 4, sub_type: 11 }, l4: { UDP: { source_port: 1, destination_port: 53 } } },
    DROP,
    { event_type: { type: 5, sub_type: 0 }, verdict: "AUDIT" },
    { event_type: { type: 200, sub_type: 1 } },
    { event_type: { type: 77, sub_type: 1 }, l4: undefined },
    dns({ is_reply: { value: true } }),
    http("REQUEST"),
  ], [
    'hubble_flows_processed_total{protocol="DNS",type="L7",subtype="DNS",verdict="FORWARDED"} 1',
    'hubble_flows_processed_total{protocol="HTTP",type="L7",subtype="HTTP",verdict="FORWARDED"} 1',
    'hubble_flows_processed_total{protocol="TCP",type="Drop",subtype="",verdict="DROPPED"} 1',
    'hubble_flows_processed_total{protocol="TCP",type="PolicyVerdict",subtype="",verdict="AUDIT"} 1',
    'hubble_flows_processed_total{protocol="TCP",type="Trace",subtype="to-endpoint",verdict="FORWARDED"} 1',
    'hubble_flows_processed_total{protocol="TCP",type="Trouble",subtype="no-answer",verdict="FORWARDED"} 1',
    'hubble_flows_processed_total{protocol="UDP",type="Trace",subtype="to-network",verdict="FORWARDED"} 1',
    'hubble_flows_processed_total{protocol="Unknown L4",type="Unknown",subtype="77",verdict="FORWARDED"} 1',
  ]],
  ["drop: each dropped packet once, also where its policy verdict is told too", "drop", [
    DROP,
    { ...DROP, event_type: { type: 5, sub_type: 0 } },
    { ...DROP, drop_reason_desc: "CT_MAP_INSERTION_FAILED", l4: { ICMPv6: { type: 128, code: 0 } } },
    {},
  ], [
    'hubble_drop_total{reason="CT_MAP_INSERTION_FAILED",protocol="ICMPv6"} 1',
    'hubble_drop_total{reason="POLICY_DENIED",protocol="TCP"} 1',
  ]],
  ["tcp: SYN, SYN-ACK, FIN and RST of what went on", "tcp", [
    tcp({ SYN: true }),
    tcp({ SYN: true, ACK: true }),
    tcp({ FIN: true, ACK: true }),
    {
      ...tcp({ FIN: true, RST: true }),
      IP: { source: "fd00::1", destination: "fd00::2", ipVersion: "IPv6" },
    },
    { ...tcp({ SYN: true }), verdict: "REDIRECTED" },
    { ...tcp({ SYN: true }), verdict: "DROPPED" },
    { ...tcp({ SYN: true }), verdict: "AUDIT" },
    { ...tcp({ SYN: true }), event_type: { type: 200, sub_type: 1 } },
    tcp({ ACK: true, PSH: true }),
  ], [
    'hubble_tcp_flags_total{flag="FIN",family="IPv4"} 1',
    'hubble_tcp_flags_total{flag="FIN",family="IPv6"} 1',
    'hubble_tcp_flags_total{flag="RST",family="IPv6"} 1',
    'hubble_tcp_flags_total{flag="SYN",family="IPv4"} 2',
    'hubble_tcp_flags_total{flag="SYN-ACK",family="IPv4"} 1',
  ]],
  ["icmp: type and code by name, dropped ones too", "icmp", [
    { l4: { ICMPv4: { type: 8, code: 0 } } },
    { ...DROP, l4: { ICMPv4: { type: 8, code: 0 } } },
    { l4: { ICMPv4: { type: 3, code: 3 } } },
    { l4: { ICMPv4: { type: 3, code: 77 } } },
    { l4: { ICMPv6: { type: 1, code: 4 } } },
    { l4: { ICMPv6: { type: 200, code: 1 } } },
    {},
  ], [
    'hubble_icmp_total{family="IPv4",type="DestinationUnreachable(Code: 77)"} 1',
    'hubble_icmp_total{family="IPv4",type="DestinationUnreachable(Port)"} 1',
    'hubble_icmp_total{family="IPv4",type="EchoRequest"} 2',
    'hubble_icmp_total{family="IPv6",type="200(1)"} 1',
    'hubble_icmp_total{family="IPv6",type="DestinationUnreachable(PortUnreachable)"} 1',
  ]],
  ["sctp: chunks that have a name, of what went on", "sctp", [
    { l4: { SCTP: { source_port: 1, destination_port: 2, chunk_type: "INIT" } } },
    { l4: { SCTP: { source_port: 1, destination_port: 2, chunk_type: "UNSUPPORTED" } } },
    { ...DROP, l4: { SCTP: { source_port: 1, destination_port: 2, chunk_type: "ABORT" } } },
    {},
  ], ['hubble_sctp_chunk_types_total{chunk_type="INIT",family="IPv4"} 1']],
  ["port-distribution: no answers, and nothing of which nobody knows", "port-distribution", [
    {},
    { verdict: "REDIRECTED" },
    { is_reply: { value: true } },
    { is_reply: undefined },
    DROP,
    { l4: { ICMPv4: { type: 8, code: 0 } } },
    { l4: { UDP: { source_port: 5, destination_port: 53 } } },
  ], [
    'hubble_port_distribution_total{protocol="ICMPv4",port="0"} 1',
    'hubble_port_distribution_total{protocol="TCP",port="5432"} 2',
    'hubble_port_distribution_total{protocol="UDP",port="53"} 1',
  ]],
  ["flows-to-world: no answers, drops by policy only", "flows-to-world", [
    { destination: WORLD },
    { destination: WORLD, is_reply: { value: true } },
    { destination: WORLD, is_reply: undefined },
    { ...DROP, destination: WORLD },
    { ...DROP, destination: WORLD, is_reply: { value: true } },
    { ...DROP, destination: WORLD, drop_reason_desc: "CT_MAP_INSERTION_FAILED" },
    {},
    { destination: WORLD, l4: undefined },
  ], [
    'hubble_flows_to_world_total{protocol="TCP",verdict="DROPPED"} 2',
    'hubble_flows_to_world_total{protocol="TCP",verdict="FORWARDED"} 2',
  ]],
  ["flows-to-world with its options", "flows-to-world:any-drop;port;syn-only", [
    { destination: WORLD },
    { destination: WORLD, ...tcp({ ACK: true }) },
    { destination: WORLD, ...tcp({ SYN: true }), is_reply: { value: true } },
    { ...DROP, destination: WORLD, drop_reason_desc: "CT_MAP_INSERTION_FAILED" },
    { destination: WORLD, l4: { UDP: { source_port: 1, destination_port: 53 } } },
  ], [
    'hubble_flows_to_world_total{protocol="TCP",verdict="DROPPED",port="5432"} 1',
    'hubble_flows_to_world_total{protocol="TCP",verdict="FORWARDED",port="5432"} 1',
  ]],
  ["policy: direction, what matched and what was decided, of packets and of requests", "policy", [
    { event_type: { type: 5, sub_type: 0 }, policy_match_type: 2 },
    {
      event_type: { type: 5, sub_type: 0 },
      policy_match_type: 1,
      verdict: "DROPPED",
      traffic_direction: "EGRESS",
    },
    { event_type: { type: 5, sub_type: 0 }, policy_match_type: 2, source: { identity: 1 } },
    { event_type: { type: 5, sub_type: 0 }, policy_match_type: 2, destination: { identity: 4 } },
    http("REQUEST", { verdict: "DROPPED" }),
    http("RESPONSE"),
    {},
  ], [
    'hubble_policy_verdicts_total{direction="egress",match="l3-only",action="dropped"} 1',
    'hubble_policy_verdicts_total{direction="ingress",match="l3-l4",action="forwarded"} 1',
    'hubble_policy_verdicts_total{direction="ingress",match="l7/http",action="dropped"} 1',
  ]],
  ["dns: questions, answers and the types of their records", "dns:query", [
    dns({ is_reply: { value: false } }),
    dns({ is_reply: { value: true } }),
    dns({ is_reply: { value: true } }, 3),
    dns({ verdict: "DROPPED", is_reply: { value: false } }),
    {},
  ], [
    'hubble_dns_queries_total{rcode="",qtypes="A",ips_returned="2",query="db.shop."} 1',
    'hubble_dns_queries_total{rcode="Policy denied",qtypes="A",ips_returned="2",query="db.shop."} 1',
    'hubble_dns_response_types_total{type="A",qtypes="A",query="db.shop."} 2',
    'hubble_dns_response_types_total{type="CNAME",qtypes="A",query="db.shop."} 2',
    'hubble_dns_responses_total{rcode="No Error",qtypes="A",ips_returned="2",query="db.shop."} 1',
    'hubble_dns_responses_total{rcode="Non-Existent Domain",qtypes="A",ips_returned="2",query="db.shop."} 1',
  ]],
  ["dns: ignoreAAAA", "dns:ignoreAAAA", [
    dns({ l7: { dns: { query: "a.", qtypes: ["AAAA"] } } }),
    dns({ l7: { dns: { query: "a.", qtypes: ["A", "AAAA"] } } }),
  ], ['hubble_dns_queries_total{rcode="",qtypes="A,AAAA",ips_returned="0"} 1']],
];

for (const [name, options, flows, series] of CASES) {
  Deno.test(`metrics count as Hubble's: ${name}`, () => {
    deepEqual(seriesOf(metricsOf(options), ...flows.map(madeFlow)), series);
  });
}

Deno.test("httpV2 counts responses, told from the client's side", () => {
  const metrics = metricsOf("httpV2:sourceContext=pod-name;destinationContext=pod-name");
  const lines = seriesOf(
    metrics,
    madeFlow(http("REQUEST")),
    madeFlow(http("RESPONSE", { ...ANSWER, traffic_direction: "EGRESS" })),
    madeFlow(http("RESPONSE", { ...ANSWER, traffic_direction: "INGRESS" })),
  );
  const who = 'source="cart-7d4b9c6f5b-x2x4z",destination="db-0"';
  deepEqual(lines.filter((line) => line.startsWith("hubble_http_requests_total")), [
    `hubble_http_requests_total{${who},method="GET",protocol="HTTP/1.1",status="503",reporter="client"} 1`,
    `hubble_http_requests_total{${who},method="GET",protocol="HTTP/1.1",status="503",reporter="server"} 1`,
  ]);
  const bucket = (le: string) =>
    lines.find((line) => line.includes('reporter="client"') && line.includes(`le="${le}"`))?.split(" ").at(
      -1,
    );
  deepEqual(["0.025", "0.05", "10", "+Inf"].map(bucket), ["0", "1", "1", "1"]);
  equal(
    lines.find((line) => line.startsWith("hubble_http_request_duration_seconds_sum")),
    `hubble_http_request_duration_seconds_sum{${who},method="GET",reporter="client"} 0.03`,
  );
});

Deno.test("http counts requests and responses each from its sender, and durations from the client's side", () => {
  const lines = seriesOf(
    metricsOf("http:sourceContext=pod-name"),
    madeFlow(http("REQUEST")),
    madeFlow(http("RESPONSE", ANSWER)),
  );
  deepEqual(lines.filter((line) => !line.includes("_bucket")), [
    'hubble_http_request_duration_seconds_count{source="cart-7d4b9c6f5b-x2x4z",method="GET",reporter="server"} 1',
    'hubble_http_request_duration_seconds_sum{source="cart-7d4b9c6f5b-x2x4z",method="GET",reporter="server"} 0.03',
    'hubble_http_requests_total{source="cart-7d4b9c6f5b-x2x4z",method="GET",protocol="HTTP/1.1",reporter="server"} 1',
    'hubble_http_responses_total{source="db-0",method="GET",protocol="HTTP/1.1",status="503",reporter="server"} 1',
  ]);
});
