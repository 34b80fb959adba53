import { deepEqual, equal, throws } from "node:assert/strict";
import { LABELS_CONTEXT, readMetricWords } from "./option_words.ts";
import { madeFlow, metricsOf, seriesOf } from "./testing.ts";

const WORLD = { identity: 2, labels: ["reserved:world", "cidr:8.8.8.8/32"] };

/** Labels of the one series that a flow makes. */
function labelsOf(options: string, flow = madeFlow()): string {
  const [line] = seriesOf(metricsOf(`tcp:${options}`), flow);
  return /^hubble_tcp_flags_total\{flag="SYN",family="IPv4",?(.*)\} 1$/.exec(line)?.[1] ?? line;
}

Deno.test("sourceContext says who by each of its ways, and takes the first that is not empty", () => {
  const flow = madeFlow({ source_names: ["cart.example.", "cart2.example."] });
  const cases: Record<string, string> = {
    identity: "k8s:app=cart,k8s:io.kubernetes.pod.namespace=shop",
    namespace: "shop",
    pod: "shop/cart-7d4b9c6f5b-x2x4z",
    "pod-name": "cart-7d4b9c6f5b-x2x4z",
    dns: "cart.example.,cart2.example.",
    ip: "10.0.1.5",
    "reserved-identity": "",
    workload: "shop/cart",
    "workload-name": "cart",
    app: "cart",
    "reserved-identity|workload|ip": "shop/cart",
  };
  for (const [ways, text] of Object.entries(cases)) {
    equal(labelsOf(`sourceContext=${ways}`, flow), `source="${text}"`, ways);
  }
});

Deno.test("destinationContext names the world, and the API server before anything else that is reserved", () => {
  const options = "destinationContext=workload|reserved-identity|ip";
  equal(labelsOf(options, madeFlow({ destination: WORLD })), 'destination="reserved:world"');
  const labels = ["reserved:world", "reserved:kube-apiserver"];
  equal(labelsOf(options, madeFlow({ destination: { labels } })), 'destination="reserved:kube-apiserver"');
  equal(labelsOf(options, madeFlow({ destination: {} })), 'destination="10.0.2.7"');
});

Deno.test("the contexts of a direction go before those of both", () => {
  const options = "sourceContext=namespace;sourceEgressContext=pod-name;destinationIngressContext=app";
  const egress = madeFlow({ traffic_direction: "EGRESS" });
  equal(labelsOf(options, egress), 'source="cart-7d4b9c6f5b-x2x4z",destination=""');
  equal(labelsOf(options), 'source="shop",destination="db"');
  const unknown = madeFlow({ traffic_direction: "TRAFFIC_DIRECTION_UNKNOWN" });
  equal(labelsOf(options, unknown), 'source="shop",destination=""');
});

Deno.test("labelsContext gives every label that Hubble knows, in one order", () => {
  equal(
    labelsOf(`labelsContext=${[...LABELS_CONTEXT].reverse().join(",")}`),
    'source_ip="10.0.1.5",source_pod="cart-7d4b9c6f5b-x2x4z",source_namespace="shop",source_workload="cart",' +
      'source_workload_kind="Deployment",source_app="cart",' +
      'destination_ip="10.0.2.7",destination_pod="db-0",destination_namespace="shop",destination_workload="db",' +
      'destination_workload_kind="StatefulSet",destination_app="db",traffic_direction="ingress"',
  );
});

Deno.test("readMetricWords() refuses what it does not know, and says what there is", () => {
  const cases: [string, RegExp][] = [
    ["tpc", /no metric "tpc"; expected default, dns, drop, .*tcp$/],
    ["toString", /no metric "toString"/],
    ["drop:query", /drop has no option "query"; expected sourceContext, .*labelsContext$/],
    ["dns:querry", /expected sourceContext, .*labelsContext, query, ignoreAAAA$/],
    ["drop:sourceContext=pods", /no "pods" for sourcecontext; expected identity, namespace, pod, /],
    ["drop:sourceContext=pod|", /no "" for sourcecontext/],
    ["drop:sourceContext", /no "" for sourcecontext/],
    ["drop:labelsContext=source_pod,x", /no "x" for labelscontext; expected source_ip, /],
    ["drop:sourceContext=pod;sourcecontext=ip", /"sourcecontext" twice/],
    ["drop tcp drop", /drop is named twice/],
    ["default drop:sourceContext=pod", /drop is named twice/],
    ["http httpV2", /one of them/],
    ["httpV2:exemplars=true", /no option "exemplars"/],
    ["kafka", /no metric "kafka"/],
  ];
  for (const [text, expected] of cases) throws(() => readMetricWords(text), expected, text);
  deepEqual(readMetricWords("  "), []);
  equal(readMetricWords("default").length, 9);
  equal(readMetricWords("sctp default").length, 10);
  deepEqual([...readMetricWords("dns:query;ignoreAAAA;labelsContext=source_ip")[0].options], [
    ["query", ""],
    ["ignoreaaaa", ""],
    ["labelscontext", "source_ip"],
  ]);
});
