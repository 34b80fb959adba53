/** Flows with every field that filters and printers look at, from a seed: more kinds than any one node sees. @module */
import { seededRandom } from "../seeded_random.ts";
import type { Init } from "@weir/proto";
import { Flow } from "@weir/proto/flow";

const NAMESPACES = ["shop", "default", "kube-system", ""];
const PODS = ["cart-1", "cart-2", "catalog-abc", "dns-0", ""];
const NAMES = ["api.example.org", "a.b.example.org", "example.com.", "UPPER.example.org"];
const LABELS = [
  "k8s:app=cart",
  "k8s:app=catalog",
  "k8s:tier=web",
  "reserved:world",
  "cidr:192.0.2.0/24",
  "k8s:x",
];
const ADDRESSES = ["10.0.1.7", "10.0.2.9", "192.0.2.10", "fd00::1", "fd00:0:0:1::2"];
const URLS = [
  "http://catalog:8080/page/7?x=1",
  "/public",
  "http://a/%41dmin",
  "https://u:p@h/x;y",
  "::bad",
  "",
];
const DROPS = [["POLICY_DENIED", 133], ["CT_MAP_INSERTION_FAILED", 155], ["POLICY_DENY", 181]] as const;

/** Makes `count` flows. The same seed makes the same flows. */
export function generateFlows(count: number, seed: number): Flow[] {
  const random = seededRandom(seed);
  const one = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  const some = <T>(list: readonly T[]): T[] => list.filter(() => random() < 0.4);
  const maybe = <T>(make: () => T): T | undefined => random() < 0.7 ? make() : undefined;
  const port = () => one([53, 80, 8080, 443, 40_000, 0]);
  const endpoint = (): Init<Flow["source"]> => ({
    ID: Math.floor(random() * 4096),
    identity: one([0, 1, 2, 6, 41_233, 50_121, 16_777_217]),
    namespace: one(NAMESPACES),
    pod_name: one(PODS),
    labels: some(LABELS),
    cluster_name: one(["default", "west", ""]),
    workloads: maybe(() => [{ name: one(["cart", "catalog"]), kind: one(["Deployment", "Job"]) }]) ?? [],
  });
  const flags = () => ({
    SYN: random() < 0.5,
    ACK: random() < 0.5,
    FIN: random() < 0.2,
    RST: random() < 0.2,
    PSH: random() < 0.2,
  });
  const layer4 = (): Init<Flow["l4"]> =>
    one<() => Init<Flow["l4"]>>([
      () => ({ TCP: { source_port: port(), destination_port: port(), flags: flags() } }),
      () => ({ UDP: { source_port: port(), destination_port: port() } }),
      () => ({ SCTP: { source_port: port(), destination_port: port() } }),
      () => ({ ICMPv4: { type: 8, code: 0 } }),
      () => ({ ICMPv6: { type: 129, code: 0 } }),
    ])();
  const layer7 = (): Init<Flow["l7"]> => ({
    type: one(["REQUEST", "RESPONSE", "SAMPLE"]),
    latency_ns: Math.floor(random() * 1e9),
    ...one<() => Init<Flow["l7"]>>([
      () => ({
        http: {
          code: one([0, 200, 404, 503]),
          method: one(["GET", "POST", "delete"]),
          url: one(URLS),
          protocol: "HTTP/1.1",
          headers: some([{ key: "X-Id", value: "7" }, { key: "x-id", value: "8" }]),
        },
      }),
      () => ({
        dns: { query: one(NAMES), ips: some(["192.0.2.10"]), rcode: one([0, 3]), qtypes: ["A"], ttl: 5 },
      }),
    ])(),
  });
  return Array.from({ length: count }, (_, n) => {
    const verdict = one(
      ["FORWARDED", "DROPPED", "ERROR", "AUDIT", "REDIRECTED", "TRACED", "TRANSLATED"] as const,
    );
    const [drop, number] = one(DROPS), isL7 = random() < 0.25;
    const address = one(ADDRESSES), version = address.includes(":") ? "IPv6" : "IPv4";
    return Flow.create({
      time: { seconds: 1_795_000_000 + n, nanos: Math.floor(random() * 1e9) },
      uuid: `flow-${n}`,
      verdict,
      ...(verdict === "DROPPED" ? { drop_reason: number, drop_reason_desc: drop } : {}),
      ethernet: { source: "02:00:00:00:00:01", destination: "02:00:00:00:00:02" },
      IP: maybe(() => ({
        source: address,
        destination: one(ADDRESSES.filter((one) => one.includes(":") === address.includes(":"))),
        ipVersion: version,
        encrypted: random() < 0.3,
        source_xlated: random() < 0.2 ? "10.9.9.9" : "",
      })),
      l4: maybe(layer4),
      l7: isL7 ? layer7() : undefined,
      source: maybe(endpoint),
      destination: maybe(endpoint),
      Type: isL7 ? "L7" : "L3_L4",
      node_name: one(["default/node-1", "west/node-2", "node-3"]),
      node_labels: some(["zone=a", "disk=ssd"]),
      source_names: some(NAMES),
      destination_names: some(NAMES),
      event_type: isL7 ? { type: 129, sub_type: 0 } : one([
        { type: 1, sub_type: number },
        { type: 4, sub_type: one([0, 3, 4, 11]) },
        { type: 5, sub_type: 0 },
      ]),
      source_service: maybe(() => ({ name: one(["cart", "dns"]), namespace: one(NAMESPACES) })),
      destination_service: maybe(() => ({ name: one(["cart", "dns"]), namespace: one(NAMESPACES) })),
      traffic_direction: one(["INGRESS", "EGRESS", "TRAFFIC_DIRECTION_UNKNOWN"]),
      policy_match_type: one([0, 1, 2, 4]),
      is_reply: maybe(() => ({ value: random() < 0.5 })),
      interface: maybe(() => ({ index: 7, name: one(["eth0", "lxc1"]) })),
      trace_context: random() < 0.2 ? { parent: { trace_id: one(["t1", "t2"]) } } : undefined,
      ip_trace_id: random() < 0.2 ? { trace_id: one([5, 6]), ip_option_type: 136 } : undefined,
      ingress_denied_by: some([{ name: "deny-cart", namespace: "shop", kind: "CiliumNetworkPolicy" }]),
      Summary: one(["TCP Flags: SYN", "UDP", ""]),
    });
  });
}
