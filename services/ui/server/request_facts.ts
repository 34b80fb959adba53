/** What an application asked for and was answered, as facts with names. Pure. @module */
import type { Flow } from "@weir/proto/flow";
import type { Fact } from "../api.ts";

/** Of DNS, HTTP's and Kafka's numbers those that have a name. */
const RCODES: Readonly<Record<number, string>> = {
  0: "NOERROR",
  1: "FORMERR",
  2: "SERVFAIL",
  3: "NXDOMAIN",
  4: "NOTIMP",
  5: "REFUSED",
};
const KAFKA_REQUESTS: Readonly<Record<string, string>> = {
  0: "Produce",
  1: "Fetch",
  2: "ListOffsets",
  3: "Metadata",
  8: "OffsetCommit",
  9: "OffsetFetch",
  18: "ApiVersions",
  22: "InitProducerId",
};

/** Facts of a flow of type L7, in the order of their weight; none of other flows. */
export function requestFacts({ l7, application }: Flow): Fact[] {
  if (l7 === undefined) return [];
  const isAnswer = l7.type === "RESPONSE", facts: Fact[] = [];
  const add = (name: string, value: string | number | undefined) => {
    if (value !== undefined && value !== "") facts.push({ name, value: `${value}` });
  };
  const { http, dns, kafka } = l7;
  if (http !== undefined) {
    add("Request", http.protocol);
    add("Method", http.method);
    add("URL", http.url);
    if (isAnswer) add("Status", http.code);
  } else if (dns !== undefined) {
    add("Request", "DNS");
    add("Query name", dns.query);
    add("Type", dns.qtypes.join(", "));
    if (isAnswer) {
      add("Answer", RCODES[dns.rcode] ?? dns.rcode);
      add("Addresses", dns.ips.join(", "));
    }
  } else if (kafka !== undefined) {
    add("Request", `Kafka ${KAFKA_REQUESTS[kafka.api_key] ?? kafka.api_key}, version ${kafka.api_version}`);
    add("Topic", kafka.topic);
    if (kafka.error_code !== 0) add("Error", kafka.error_code);
  } else if (application !== undefined) {
    const { protocol, action, subjects, error_code: error } = application;
    add("Request", `${protocol} ${action}`.trimEnd());
    add(SUBJECTS[protocol] ?? "About", subjects.join(", "));
    if (error !== 0) add("Error", `0x${error.toString(16).padStart(4, "0")}`);
  }
  if (isAnswer && facts.length > 0) add("Latency", latencyText(l7.latency_ns));
  return facts;
}

const SUBJECTS: Readonly<Record<string, string>> = {
  Cassandra: "Table",
  memcached: "Keys",
  TLS: "Server name",
};

function latencyText(ns: number): string {
  return ns < 1e6
    ? `${Math.round(ns / 1000)} µs`
    : ns < 1e9
    ? `${(ns / 1e6).toFixed(1)} ms`
    : `${(ns / 1e9).toFixed(1)} s`;
}
