/** Metrics of layer 7: dns, http, httpV2. Names, labels and what counts are Hubble's. @module */
import { L7_EVENT } from "@weir/flow-filter";
import type { CountedFlow } from "./counted_flow.ts";
import { closed, type Handler, open } from "./handler.ts";
import { rcodeText } from "./rcodes.ts";

/** dns_queries_total, dns_responses_total, dns_response_types_total */
export const dns: Handler = {
  make({ context, table, own }) {
    const withQuery = own.has("query"), ignoreAaaa = own.has("ignoreaaaa");
    const query = withQuery ? [open("query")] : [];
    const labels = [...context.labels, ...closed("rcode"), open("qtypes"), open("ips_returned"), ...query];
    const queries = table({
      name: "hubble_dns_queries_total",
      help: "Number of DNS queries observed",
      labels,
    });
    const responses = table({
      name: "hubble_dns_responses_total",
      help: "Number of DNS responses observed",
      labels,
    });
    const types = table({
      name: "hubble_dns_response_types_total",
      help: "Number of DNS response records observed, by type",
      labels: [...context.labels, open("type"), open("qtypes"), ...query],
    });
    return (flow) => {
      const dns = flow.type === L7_EVENT ? flow.l7?.dns : undefined;
      if (dns === undefined) return;
      if (ignoreAaaa && dns.qtypes.length === 1 && dns.qtypes[0] === "AAAA") return;
      const who = context.values(flow), things = () => context.things(flow);
      const qtypes = dns.qtypes.join(","), asked = withQuery ? [dns.query] : [];
      const values = (rcode: string) => [...who, rcode, qtypes, `${dns.ips.length}`, ...asked];
      if (flow.verdict === "DROPPED") queries.add(values("Policy denied"), things);
      else if (flow.isReply !== true) queries.add(values(""), things);
      else {
        responses.add(values(rcodeText(dns.rcode)), things);
        for (const type of dns.rrtypes) types.add([...who, type, qtypes, ...asked], things);
      }
    };
  },
};

/** Prometheus' own default. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Which side's node tells. */
function reporterOf({ direction }: CountedFlow): string {
  return direction === "EGRESS" ? "client" : direction === "INGRESS" ? "server" : "unknown";
}

const httpOf = (flow: CountedFlow) => flow.type === L7_EVENT ? flow.l7?.http : undefined;
const secondsOf = (flow: CountedFlow) => Number(flow.l7?.latency_ns ?? 0) / 1e9;

/** http_requests_total, http_responses_total, http_request_duration_seconds */
export const http: Handler = {
  make({ context, table }) {
    const { labels } = context;
    const requests = table({
      name: "hubble_http_requests_total",
      help: "Count of HTTP requests",
      labels: [...labels, open("method"), open("protocol"), ...closed("reporter")],
    });
    const responses = table({
      name: "hubble_http_responses_total",
      help: "Count of HTTP responses",
      labels: [...labels, open("method"), open("protocol"), open("status"), ...closed("reporter")],
    });
    const seconds = table({
      name: "hubble_http_request_duration_seconds",
      help: "Time from an HTTP request to its response",
      labels: [...labels, open("method"), ...closed("reporter")],
      bounds: SECONDS,
    });
    return (flow) => {
      const http = httpOf(flow), reporter = reporterOf(flow);
      if (http === undefined) return;
      const { method, protocol, code } = http;
      const who = context.values(flow), things = () => context.things(flow);
      if (flow.l7?.type === "REQUEST") requests.add([...who, method, protocol, reporter], things);
      if (flow.l7?.type !== "RESPONSE") return;
      responses.add([...who, method, protocol, `${code}`, reporter], things);
      seconds.add(
        [...context.values(flow, true), method, reporter],
        () => context.things(flow, true),
        secondsOf(flow),
      );
    };
  },
};

/** http_requests_total and http_request_duration_seconds, both of responses, told from the client's side. */
export const httpV2: Handler = {
  make({ context, table }) {
    const requests = table({
      name: "hubble_http_requests_total",
      help: "Count of HTTP requests",
      labels: [...context.labels, open("method"), open("protocol"), open("status"), ...closed("reporter")],
    });
    const seconds = table({
      name: "hubble_http_request_duration_seconds",
      help: "Time from an HTTP request to its response",
      labels: [...context.labels, open("method"), ...closed("reporter")],
      bounds: SECONDS,
    });
    return (flow) => {
      const http = httpOf(flow), reporter = reporterOf(flow);
      if (http === undefined || flow.l7?.type !== "RESPONSE") return;
      const who = context.values(flow, true), things = () => context.things(flow, true);
      requests.add([...who, http.method, http.protocol, `${http.code}`, reporter], things);
      seconds.add([...who, http.method, reporter], things, secondsOf(flow));
    };
  },
};
