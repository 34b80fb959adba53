/** Who takes part: a client and a stranger, two web servers, on two nodes. @module */
const server = new URL("../e2e/testdata/server.py", import.meta.url).pathname;

/** What a pod runs to answer on these ports. */
export function serves(...ports: string[]): string {
  return `[python3, ${server}, ${ports.join(", ")}]`;
}

/** A pod of namespace shop; `rest` goes into its container. */
export function pod(name: string, node: number, labels: string, command: string, rest = ""): string {
  return `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { ${labels} } }
spec: { nodeName: node-${node}, containers: [{ name: main, command: ${command}${rest} }] }
`;
}

/** A policy of namespace shop. */
export function policy(name: string, spec: string): string {
  return `---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: ${name}, namespace: shop }
spec: ${spec}
`;
}

/** A service of namespace shop. */
export function service(name: string, spec: string): string {
  return `---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: ${spec}
`;
}

export const HTTP = ", ports: [{ name: http, containerPort: 8080 }]";

/** The cast that every incident finds. */
export const CAST: string = [
  pod("client", 1, "app: client", "[sleep, infinity]"),
  pod("stranger", 2, "app: stranger", "[sleep, infinity]"),
  pod("web-1", 1, "app: web, number: one", serves("8080/TCP", "53/UDP"), HTTP),
  pod("web-2", 2, "app: web, number: two", serves("8080/TCP", "53/UDP"), HTTP),
].join("");

/** Selects the web servers. */
export const WEB = "endpointSelector: { matchLabels: { app: web } }";
/** The question that most incidents begin with. */
export const WHY: readonly string[] = [
  "explain",
  "--from",
  "shop/client",
  "--to",
  "shop/web-2",
  "-p",
  "8080",
];
/** The traffic of that question. */
export const TRAFFIC: readonly string[] = ["from: shop/client, to: shop/web-2, port: 8080"];
