/** The pods and services that scenarios find. @module */
import type { PodPort, PodSpec } from "./target.ts";

/** Namespaces of the scenarios begin so. */
export const NAMESPACE_PREFIX = "weir-test-";
/** Where no policy ever selects anything. */
export const PLAIN = `${NAMESPACE_PREFIX}plain`;

/** What pods that answer answer on. */
export const HTTP = 8080, ALT = 8090, HOST_HTTP = 18080, HOST_PORT = 18090;

const ECHO: readonly PodPort[] = [
  { port: HTTP, protocol: "TCP", name: "http" },
  { port: ALT, protocol: "TCP", name: "alt" },
  { port: HTTP, protocol: "UDP", name: "echo-udp" },
];
const ON_HOST: readonly PodPort[] = [{ port: HOST_HTTP, protocol: "TCP" }];

/** Pods of {@link PLAIN}. */
export function plainPods(nodesCount: number): PodSpec[] {
  const onHosts = Array.from({ length: Math.min(2, nodesCount) }, (_, node): PodSpec => ({
    name: `echo-host-${node + 1}`,
    node,
    labels: { name: "echo-host" },
    ports: ON_HOST,
    hostNetwork: true,
  }));
  return [
    { name: "client", node: 0, labels: { kind: "client", name: "client" } },
    { name: "client3", node: 1, labels: { kind: "client", name: "client3" } },
    { name: "echo-same", node: 0, labels: { kind: "echo", name: "echo-same" }, ports: ECHO },
    {
      name: "echo-other",
      node: 1,
      labels: { kind: "echo", name: "echo-other" },
      ports: [...ECHO, { port: 8100, protocol: "TCP", hostPort: HOST_PORT }],
    },
    { name: "loop", node: 0, labels: { name: "loop" }, ports: ECHO.slice(0, 1) },
    ...onHosts,
  ];
}

/** Pods of a namespace in which policies come and go. */
export const POLICY_PODS: readonly PodSpec[] = [
  { name: "client", node: 0, labels: { kind: "client", name: "client" }, serviceAccount: "client" },
  { name: "client2", node: 0, labels: { kind: "client", name: "client2", other: "client" } },
  { name: "echo", node: 1, labels: { kind: "echo", name: "echo" }, ports: ECHO },
];

/** Services of {@link PLAIN}, and how many backends each has. */
export const PLAIN_BACKENDS: Readonly<Record<string, number>> = {
  echo: 2,
  "echo-one": 1,
  sticky: 2,
  loop: 1,
  nobody: 0,
  balanced: 1,
};

/** Addresses of load balancers that the scenarios take for a while: of a range that is for tests of networks. */
export const POOL = ["198.18.255.0/28", "fd57:6569:7274::/124"];

/** Services of {@link PLAIN} as manifests, and the pool that gives one of them its addresses. */
export function plainServices(): string {
  const service = (name: string, spec: Record<string, unknown>) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: PLAIN },
      spec: { ipFamilyPolicy: "PreferDualStack", ...spec },
    }) + "\n";
  const ports = [{ name: "http", port: 80, targetPort: HTTP }];
  return [
    service("echo", {
      type: "NodePort",
      selector: { kind: "echo" },
      ports: [...ports, { name: "udp", protocol: "UDP", port: 80, targetPort: HTTP }],
    }),
    service("echo-one", { type: "NodePort", selector: { name: "echo-other" }, ports }),
    service("sticky", { selector: { kind: "echo" }, sessionAffinity: "ClientIP", ports }),
    service("loop", { selector: { name: "loop" }, ports }),
    service("nobody", { selector: { name: "nobody" }, ports }),
    JSON.stringify({
      apiVersion: "cilium.io/v2",
      kind: "CiliumLoadBalancerIPPool",
      metadata: { name: `${NAMESPACE_PREFIX}pool` },
      spec: {
        blocks: POOL.map((cidr) => ({ cidr })),
        serviceSelector: { matchLabels: { "io.kubernetes.service.namespace": PLAIN } },
      },
    }) + "\n",
    service("balanced", { type: "LoadBalancer", selector: { name: "echo-other" }, ports }),
  ].join("---\n");
}
