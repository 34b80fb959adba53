import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { MetricsRegistry, systemClock } from "@weir/common";
import { compileFilters, loadEngines } from "@weir/flow-filter";
import type { Init } from "@weir/proto";
import type { FlowFilter } from "@weir/proto/flow";
import { L7Record, L7RecordBatch } from "@weir/proto/l7";
import { Rule } from "@weir/proto/policy";
import type { Names } from "../flow_builder.ts";
import { FlowExporter } from "../flow_exporter.ts";
import { HubbleMetrics } from "../metrics/hubble_metrics.ts";
import { buildL7Flow } from "./l7_flow.ts";
import { recordsApi } from "./records_server.ts";
import { readRedaction, REDACTED } from "./redaction.ts";

const known = (identity: number, podName: string) => ({
  identity,
  namespace: "default",
  podName,
  labels: [`k8s:name=${podName}`],
});
const names: Names = {
  nodeName: "node-1",
  cluster: "default",
  address: (ip) =>
    ip === "10.0.0.1" ? known(300, "client") : ip === "10.0.0.2" ? known(400, "server") : undefined,
  identityLabels: () => undefined,
  rule: (cookie) =>
    cookie === 0 ? undefined : Rule.create({
      cookie,
      sources: [{
        policy: "cnp:default/api",
        policyName: "api",
        namespace: "default",
        kind: "CiliumNetworkPolicy",
        line: 7,
      }],
    }),
  endpointAddresses: () => [],
  endpoint: () => undefined,
  interfaceName: () => "",
  service: () => undefined,
  serviceAt: (address, port) =>
    address === "10.96.0.1" && port === 80 ? { namespace: "default", name: "web" } : undefined,
};

const CONNECTION = {
  number: 7,
  protocol: 6,
  clientAddress: "10.0.0.1",
  clientPort: 4711,
  serverAddress: "10.0.0.2",
  serverPort: 8080,
  clientIdentity: 300,
  serverIdentity: 400,
  frontendAddress: "10.96.0.1",
  frontendPort: 80,
};
const recordOf = (record: Init<L7Record>) =>
  L7Record.create({
    timeUnixS: 1_700_000_000.5,
    connection: CONNECTION,
    direction: "INGRESS",
    type: "REQUEST",
    verdict: "FORWARDED",
    cookie: 9,
    http: {
      method: "GET",
      url: "http://u:secret@web/public?token=1",
      protocol: "HTTP/1.1",
      headers: [{ key: "Authorization", value: "Bearer x" }, { key: "Accept", value: "*/*" }],
    },
    ...record,
  });
const answer = recordOf({
  type: "RESPONSE",
  latencyNs: 5_000_000,
  http: { method: "GET", url: "http://web/public", protocol: "HTTP/1.1", code: 200 },
});
const context = { uuid: "u" };

Deno.test("buildL7Flow() names who asked whom, and what; the answer goes the other way", () => {
  const asked = buildL7Flow(recordOf({}), names, context);
  assert.deepEqual([asked.Type, asked.verdict, asked.event_type?.type, asked.is_reply?.value], [
    "L7",
    "FORWARDED",
    129,
    false,
  ]);
  assert.deepEqual([asked.source?.pod_name, asked.destination?.pod_name], ["client", "server"]);
  assert.deepEqual([asked.l4?.TCP?.source_port, asked.l4?.TCP?.destination_port], [4711, 8080]);
  assert.equal(asked.destination_service?.name, "web");
  assert.equal(asked.traffic_direction, "INGRESS");
  assert.deepEqual(asked.ingress_allowed_by.map(({ name, line }) => [name, line]), [["api", 7]]);
  assert.deepEqual([asked.l7?.type, asked.l7?.http?.method, asked.l7?.http?.headers.length], [
    "REQUEST",
    "GET",
    2,
  ]);
  const answered = buildL7Flow(answer, names, context);
  assert.deepEqual([answered.source?.pod_name, answered.destination?.pod_name], ["server", "client"]);
  assert.deepEqual([answered.IP?.source, answered.l4?.TCP?.source_port], ["10.0.0.2", 8080]);
  assert.equal(answered.source_service?.name, "web");
  assert.deepEqual([
    answered.is_reply?.value,
    answered.l7?.type,
    answered.l7?.http?.code,
    answered.l7?.latency_ns,
  ], [true, "RESPONSE", 200, 5_000_000]);
  assert.equal(answered.Summary, "HTTP/1.1 200 5ms (GET http://web/public)");
});

Deno.test("buildL7Flow() says who denied, and what could not be read", () => {
  const denied = buildL7Flow(
    recordOf({ verdict: "DENIED", direction: "EGRESS", reason: "no rule allows this request" }),
    names,
    context,
  );
  assert.equal(denied.verdict, "DROPPED");
  assert.deepEqual(denied.egress_denied_by.map(({ name }) => name), ["api"]);
  assert.match(denied.Summary, /; no rule allows this request$/);
  const broken = buildL7Flow(
    recordOf({ verdict: "ERROR", cookie: 0, http: undefined, reason: "TLS on a port with an http rule" }),
    names,
    context,
  );
  assert.deepEqual([broken.verdict, broken.Summary], ["ERROR", "TLS on a port with an http rule"]);
});

Deno.test("buildL7Flow() has a place for what Hubble's message has none for", () => {
  const cases: [Init<L7Record>, unknown, string][] = [
    [{ cassandra: { opcode: "QUERY", queryAction: "select", queryTable: "shop.cart", errorCode: 0x2100 } }, {
      protocol: "Cassandra",
      action: "select",
      subjects: ["shop.cart"],
      error_code: 0x2100,
    }, "Cassandra QUERY select shop.cart"],
    [{ memcache: { command: "get", keys: ["a", "b"] } }, {
      protocol: "memcached",
      action: "get",
      subjects: ["a", "b"],
      error_code: 0,
    }, "memcached get a b"],
    [{ tls: { serverName: "a.example", encryptedHello: true } }, {
      protocol: "TLS",
      action: "",
      subjects: ["a.example"],
      error_code: 0,
    }, "TLS a.example (the outer name of an encrypted ClientHello, or GREASE)"],
    [{ tls: {} }, { protocol: "TLS", action: "", subjects: [], error_code: 0 }, "TLS without a server name"],
  ];
  for (const [record, expected, says] of cases) {
    const { application, Summary } = buildL7Flow(recordOf({ http: undefined, ...record }), names, context);
    assert.deepEqual({ ...application }, expected);
    assert.equal(Summary, says);
  }
  assert.equal(buildL7Flow(recordOf({}), names, context).application, undefined);
});

Deno.test("buildL7Flow() takes out what the options name", () => {
  const config = {
    hubbleRedactEnabled: true,
    hubbleRedactHttpUrlquery: true,
    hubbleRedactHttpUserinfo: true,
    hubbleRedactHttpHeadersAllow: "",
    hubbleRedactHttpHeadersDeny: "authorization",
  };
  const flow = buildL7Flow(recordOf({}), names, { uuid: "u", redaction: readRedaction(config) });
  assert.equal(flow.l7?.http?.url, `http://u:${REDACTED}@web/public`);
  assert.deepEqual(flow.l7?.http?.headers.map(({ value }) => value), [REDACTED, "*/*"]);
  assert.equal(flow.Summary.includes("secret") || flow.Summary.includes("token"), false);
  const allow = readRedaction({
    ...config,
    hubbleRedactHttpHeadersAllow: "authorization",
    hubbleRedactHttpHeadersDeny: "",
  });
  const shown = buildL7Flow(recordOf({}), names, { uuid: "u", redaction: allow });
  assert.deepEqual(shown.l7?.http?.headers.map(({ value }) => value), ["Bearer x", REDACTED]);
  assert.equal(readRedaction({ ...config, hubbleRedactEnabled: false }), undefined);
  assert.throws(
    () => readRedaction({ ...config, hubbleRedactHttpHeadersAllow: "a" }),
    /expected one of them/,
  );
});

Deno.test("FlowExporter makes flows of the proxy's records, which filters find and metrics count", async () => {
  const metrics = new MetricsRegistry();
  const hubble = new HubbleMetrics({
    options: "httpV2:sourceContext=pod;destinationContext=pod flow",
    clock: systemClock,
  });
  const exporter = new FlowExporter({ datapath: new WeirClient("/nowhere.sock"), names, metrics, hubble });
  const proxy = new WeirClient({ handler: recordsApi(exporter).fetch });
  await proxy.call("/v1/l7records:add", {
    request: {
      message: L7RecordBatch,
      value: { records: [recordOf({}), answer, recordOf({ verdict: "DENIED" })], lost: 3 },
    },
    response: L7RecordBatch,
  });
  const flows = exporter.ring.held().map(({ flow }) => flow);
  const found = async (filter: Init<FlowFilter>) =>
    flows.filter(compileFilters([filter], [], await loadEngines([filter]))).length;
  assert.equal(await found({ event_type: [{ type: 129 }] }), 3);
  assert.equal(await found({ http_status_code: ["2+"] }), 1);
  assert.equal(await found({ http_method: ["get"], verdict: ["DROPPED"] }), 1);
  assert.equal(await found({ http_path: ["/pub.*"] }), 3);
  assert.equal(await found({ source_pod: ["default/client"] }), 2);
  const text = metrics.render();
  assert.match(
    text,
    /hubble_http_requests_total\{[^}]*source="default\/client"[^}]*destination="default\/server"[^}]*status="200"[^}]*reporter="server"[^}]*\} 1/,
  );
  assert.match(text, /weir_flow_l7_records_lost 3/);
});
