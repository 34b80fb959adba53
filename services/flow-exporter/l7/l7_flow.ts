/**
 * From a record of the L7 proxy to a flow of type L7: who asked whom, what, and what became of it. Answers go the other way, as in
 * Hubble: their source is the server.
 * @module
 */
import { type ApplicationRequest, Flow, type HTTP, type Layer7, type Policy } from "@weir/proto/flow";
import type { L7Record } from "@weir/proto/l7";
import type { Init } from "@weir/proto";
import { L7_EVENT } from "@weir/flow-filter";
import { endNamed, type Names, policiesOf } from "../flow_builder.ts";
import { type HttpRedaction, redactHttp } from "./redaction.ts";

const VERDICTS = { FORWARDED: "FORWARDED", DENIED: "DROPPED", ERROR: "ERROR" } as const;

/** What a flow is made with beside its record. */
export interface L7Context {
  readonly uuid: string;
  readonly redaction?: HttpRedaction;
}

/** Builds the flow of a record. Pure. */
export function buildL7Flow(record: L7Record, names: Names, { uuid, redaction }: L7Context): Flow {
  const { connection: handle, timeUnixS: unixS } = record;
  const isReply = record.type === "RESPONSE";
  const client = {
    ip: handle?.clientAddress ?? "",
    port: handle?.clientPort ?? 0,
    identity: handle?.clientIdentity ?? 0,
  };
  const server = {
    ip: handle?.serverAddress ?? "",
    port: handle?.serverPort ?? 0,
    identity: handle?.serverIdentity ?? 0,
  };
  const [from, to] = isReply ? [server, client] : [client, server];
  const ports = { source_port: from.port, destination_port: to.port };
  const isUdp = handle?.protocol === 17;
  const l7 = layer7(record, redaction);
  const policies = policiesOf(record.cookie, names);
  const service = handle && names.serviceAt(
    handle.frontendAddress || handle.serverAddress,
    handle.frontendAddress === "" ? handle.serverPort : handle.frontendPort,
    isUdp ? "UDP" : "TCP",
  );
  return Flow.create({
    time: { seconds: Math.floor(unixS), nanos: Math.floor((unixS % 1) * 1e9) },
    uuid,
    Type: "L7",
    verdict: VERDICTS[record.verdict as keyof typeof VERDICTS] ?? "VERDICT_UNKNOWN",
    node_name: names.cluster === "" ? names.nodeName : `${names.cluster}/${names.nodeName}`,
    IP: { source: from.ip, destination: to.ip, ipVersion: client.ip.includes(":") ? "IPv6" : "IPv4" },
    l4: isUdp ? { UDP: ports } : { TCP: ports },
    source: endNamed(names.address(from.ip), from.identity, names),
    destination: endNamed(names.address(to.ip), to.identity, names),
    ...(isReply ? { source_service: service } : { destination_service: service }),
    event_type: { type: L7_EVENT, sub_type: 0 },
    traffic_direction: record.direction === "INGRESS" ? "INGRESS" : "EGRESS",
    is_reply: { value: isReply },
    reply: isReply,
    l7,
    application: applicationOf(record),
    Summary: summary(record, l7.http),
    ...verdictPolicies(record, policies),
  });
}

function verdictPolicies({ verdict, direction }: L7Record, policies: Init<Policy>[]): Init<Flow> {
  const isIngress = direction === "INGRESS";
  switch (verdict) {
    case "FORWARDED":
      return isIngress ? { ingress_allowed_by: policies } : { egress_allowed_by: policies };
    case "DENIED":
      return isIngress ? { ingress_denied_by: policies } : { egress_denied_by: policies };
  }
  return {};
}

function layer7(record: L7Record, redaction: HttpRedaction | undefined): Layer7Parts {
  const { http, dns, kafka } = record;
  const common = {
    type: record.type === "RESPONSE" ? "RESPONSE" : "REQUEST",
    latency_ns: record.latencyNs,
  } as const;
  if (http !== undefined) {
    const { code, method, url, protocol, headers } = http;
    const plain = { code, method, url, protocol, headers: headers.map(({ key, value }) => ({ key, value })) };
    return { ...common, http: redaction === undefined ? plain : redactHttp(plain, redaction) };
  }
  if (dns !== undefined) return { ...common, dns: { ...dns, observation_source: "proxy" } };
  if (kafka !== undefined) {
    return {
      ...common,
      kafka: {
        error_code: kafka.errorCode,
        api_version: kafka.apiVersion,
        api_key: `${kafka.apiKey}`,
        correlation_id: kafka.correlationId,
        topic: kafka.topics[0] ?? "",
      },
    };
  }
  return common;
}

/** What Hubble's message has no place for. */
function applicationOf({ cassandra, memcache, tls }: L7Record): Init<ApplicationRequest> | undefined {
  const some = (...texts: string[]) => texts.filter((text) => text !== "");
  if (cassandra !== undefined) {
    const { queryAction, queryTable, errorCode } = cassandra;
    return { protocol: "Cassandra", action: queryAction, subjects: some(queryTable), error_code: errorCode };
  }
  if (memcache !== undefined) {
    return { protocol: "memcached", action: memcache.command, subjects: memcache.keys };
  }
  return tls && { protocol: "TLS", action: "", subjects: some(tls.serverName) };
}

type Layer7Parts = Init<Layer7> & { http?: Pick<HTTP, "code" | "method" | "url" | "protocol" | "headers"> };

/** "HTTP/1.1 GET http://a/b", "HTTP/2 200 gRPC 7 5ms (POST http://a/b)"; of what was not allowed also why. */
function summary(record: L7Record, http: Layer7Parts["http"]): string {
  const { type, latencyNs, reason, cassandra, memcache, kafka, dns, tls } = record;
  let text = "";
  if (http !== undefined && http.protocol !== "") {
    const { grpcStatus } = record.http!;
    const code = grpcStatus === undefined ? `${http.code}` : `${http.code} gRPC ${grpcStatus}`;
    text = type === "RESPONSE"
      ? `${http.protocol} ${code} ${Math.round(latencyNs / 1e6)}ms (${http.method} ${http.url})`
      : `${http.protocol} ${http.method} ${http.url}`;
  } else if (cassandra !== undefined) {
    text = `Cassandra ${cassandra.opcode} ${cassandra.queryAction} ${cassandra.queryTable}`.trimEnd();
  } else if (memcache !== undefined) {
    text = `memcached ${memcache.command} ${memcache.keys.join(" ")}`.trimEnd();
  } else if (kafka !== undefined) text = `Kafka ${kafka.apiKey} topics ${kafka.topics.join(",")}`;
  else if (dns !== undefined) {
    text = `DNS ${type === "RESPONSE" ? "Answer" : "Query"} ${dns.query} ${dns.qtypes.join(",")}`;
  } else if (tls !== undefined) {
    text = `TLS ${tls.serverName === "" ? "without a server name" : tls.serverName}` +
      (tls.encryptedHello ? " (the outer name of an encrypted ClientHello, or GREASE)" : "");
  }
  return [text, reason].filter((part) => part !== "").join("; ");
}
