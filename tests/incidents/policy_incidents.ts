/** Incidents in which policy denies. @module */
import { cgroupRootHere } from "../cgroup_root.ts";
import { CAST, pod, policy, serves, TRAFFIC, WEB, WHY } from "./cast.ts";
import type { Incident } from "./incident.ts";

const CGROUP = `${cgroupRootHere()}/weir-incident-${Deno.pid}`;

const allow = (whom: string, port = "8080", protocol = "TCP") =>
  `{ ${WEB}, ingress: [{ fromEndpoints: [{ matchLabels: { ${whom} } }], toPorts: [{ ports: [{ port: "${port}", protocol: ${protocol} }] }] }] }`;
const explain = (
  from: string,
  to: string,
  port: string,
) => ["explain", "--from", from, "--to", to, "-p", port];

export const POLICY_INCIDENTS: readonly Incident[] = [
  {
    name: "the policy names a label that the client does not have",
    manifests: policy("web", allow("app: cleint")),
    traffic: TRAFFIC,
    ask: WHY,
    says: [
      /DENIED/,
      /almost +cnp:shop\/web .*app=cleint.*the source is k8s:app=client/,
      /Give the source label app=cleint/,
    ],
    code: 3,
    fix: { says: /app=cleint/, replace: ["app: cleint", "app: client"] },
  },
  {
    name: "no rule for this client",
    manifests: policy("web", allow("app: stranger")),
    traffic: TRAFFIC,
    ask: WHY,
    says: [/Denied by default: cnp:shop\/web selects the destination/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "the rule allows another port",
    manifests: policy("web", allow("app: client", "8008")),
    traffic: TRAFFIC,
    ask: WHY,
    says: [
      /almost .* allows 8008\/TCP; you asked for 8080\/TCP/,
      /Add port 8080\/TCP to cnp:shop\/web spec\.ingress\[0\]/,
    ],
    code: 3,
    fix: { says: /Add port 8080\/TCP/, replace: [`"8008"`, `"8080"`] },
  },
  {
    name: "the rule allows the other protocol",
    manifests: policy("web", allow("app: client", "8080", "UDP")),
    traffic: TRAFFIC,
    ask: WHY,
    says: [/almost .* allows 8080\/UDP; you asked for 8080\/TCP/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "egress of the client is closed",
    manifests: policy(
      "client",
      `{ endpointSelector: { matchLabels: { app: client } }, egress: [{ toEndpoints: [{ matchLabels: { app: db } }] }] }`,
    ),
    traffic: TRAFFIC,
    ask: WHY,
    says: [/egress at shop\/client: denied/, /ingress at shop\/web-2: allowed/],
    saysNot: [/to flip/, /to deny it/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "both sides are closed",
    manifests: policy("all", "{ endpointSelector: {}, ingress: [{}], egress: [{}] }"),
    traffic: TRAFFIC,
    ask: WHY,
    says: [/egress at shop\/client: denied/, /ingress at shop\/web-2: denied/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "a policy selects everybody where it should select some",
    manifests: policy(
      "db-only",
      `{ endpointSelector: {}, ingress: [{ fromEndpoints: [{ matchLabels: { app: api } }] }] }`,
    ),
    traffic: TRAFFIC,
    ask: WHY,
    says: [/Narrow the selector of cnp:shop\/db-only spec .*selects \d+ identities/],
    code: 3,
    fix: {
      says: /Narrow the selector/,
      replace: ["endpointSelector: {}", "endpointSelector: { matchLabels: { app: db } }"],
    },
  },
  {
    name: "a clusterwide policy denies",
    manifests: `---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: { name: no-web }
spec: { endpointSelector: { matchLabels: { app: web } }, ingressDeny: [{ fromEndpoints: [{ matchLabels: { app: client } }] }], ingress: [{ fromEntities: [all] }] }
`,
    traffic: TRAFFIC,
    ask: WHY,
    says: [/Denied by ccnp:no-web spec\.ingressDeny\[0\]/, /Remove ccnp:no-web/],
    code: 3,
    fix: { says: /Remove ccnp:no-web/, run: [["policy", "delete", "ccnp:no-web"]] },
  },
  {
    name: "the other namespace is not meant",
    manifests: `---
apiVersion: v1
kind: Pod
metadata: { name: visitor, namespace: other, labels: { app: client } }
spec: { nodeName: node-1, containers: [{ name: main, command: [sleep, infinity] }] }
` + policy("web", allow("app: client")),
    traffic: ["from: other/visitor, to: shop/web-2, port: 8080"],
    ask: explain("other/visitor", "shop/web-2", "8080"),
    says: [/io\.kubernetes\.pod\.namespace=other/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "a port name that no endpoint has",
    manifests: policy("web", allow("app: client", "htpp")),
    traffic: TRAFFIC,
    ask: ["policy", "list", "-o", "wide"],
    says: [/no endpoint that it selects has a TCP port named htpp/],
    fix: { says: /htpp/, replace: [`"htpp"`, `"http"`] },
  },
  {
    name: "a policy that selects nobody",
    manifests: policy("web", allow("app: client")).replace("app: web", "app: wbe"),
    ask: ["policy", "list"],
    says: [/SELECTS/, /nobody/, /no endpoint has app=wbe/],
    fix: { says: /app=wbe/, replace: ["app: wbe", "app: web"] },
  },
  {
    name: "a CIDR rule is meant for pods",
    manifests: policy("web", `{ ${WEB}, ingress: [{ fromCIDR: [10.0.0.0/8] }] }`),
    traffic: TRAFFIC,
    ask: ["policy", "list", "-o", "wide"],
    says: [/10\.0\.0\.0\/8 covers pods of node-\d .*a CIDR rule does not allow pods and nodes/],
    fix: { says: /CIDR rule/, replace: ["fromCIDR: [10.0.0.0/8]", "fromEndpoints: [{}]"] },
  },
  {
    name: "egress is closed and DNS with it",
    manifests: policy(
      "client",
      `{ endpointSelector: { matchLabels: { app: client } }, egress: [{ toEndpoints: [{ matchLabels: { app: web } }], toPorts: [{ ports: [{ port: "8080", protocol: TCP }] }] }] }`,
    ),
    traffic: ["from: shop/client, to: shop/web-1, port: 53/UDP"],
    ask: ["policy", "list", "-o", "wide"],
    says: [/closes egress, and nothing allows 53\/UDP: names cannot be resolved/],
    fix: {
      says: /53\/UDP/,
      replace: [
        `{ port: "8080", protocol: TCP }`,
        `{ port: "8080", protocol: TCP }, { port: "53", protocol: UDP }`,
      ],
    },
  },
  {
    name: "who comes from outside is denied",
    manifests: policy("web", allow("app: client")),
    traffic: ["from: outside, to: shop/web-1, port: 8080"],
    ask: explain("world", "shop/web-1", "8080"),
    says: [/Denied by default/, /allows 8080\/TCP from world/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "ping is denied",
    manifests: policy("web", allow("app: client")),
    traffic: ["from: shop/client, to: shop/web-2, port: ICMP"],
    ask: explain("shop/client", "shop/web-2", "icmp"),
    says: [/ICMP type 8/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "a label with a typo on the client itself",
    manifests: policy("web", allow("app: client")) +
      CAST.split("---\n")[1].replace("name: client,", "name: late,")
        .replace("app: client", "app: cilent").replace(/^/, "---\n"),
    traffic: ["from: shop/late, to: shop/web-2, port: 8080"],
    ask: explain("shop/late", "shop/web-2", "8080"),
    says: [/Give the source label app=client \(it has cilent\)/],
    code: 3,
    fix: "command",
  },
  {
    name: "a port range ends before the port",
    manifests: policy(
      "web",
      `{ ${WEB}, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }], toPorts: [{ ports: [{ port: "8000", endPort: 8079, protocol: TCP }] }] }] }`,
    ),
    traffic: TRAFFIC,
    ask: WHY,
    says: [/almost .* allows 8000-8079\/TCP; you asked for 8080\/TCP/],
    code: 3,
    fix: { says: /Add port 8080\/TCP/, replace: ["endPort: 8079", "endPort: 8080"] },
  },
  {
    name: "an entity is allowed that the client is not",
    manifests: policy("web", `{ ${WEB}, ingress: [{ fromEntities: [world] }] }`),
    traffic: TRAFFIC,
    ask: WHY,
    says: [
      /Denied by default: cnp:shop\/web/,
      /almost .*fromEntities\[0\].* means reserved:world.*; the source is k8s:app=client/,
    ],
    saysNot: [/Give the source/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "a namespace lacks the label that a NetworkPolicy asks for",
    manifests: `---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, policyTypes: [Ingress], ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: a } } }] }] }
`,
    traffic: TRAFFIC,
    ask: WHY,
    says: [
      /almost .* means namespace label team=a; the source is k8s:app=client/,
      /Give namespace shop \(of the source\) label team=a/,
    ],
    saysNot: [/io\.cilium\.k8s\.namespace\.labels/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "a port name means another number at this pod",
    manifests:
      pod("odd", 2, "app: odd", serves("8080/TCP"), ", ports: [{ name: http, containerPort: 9090 }]") +
      policy(
        "odd",
        "{ endpointSelector: { matchLabels: { app: odd } }, ingress: [{ toPorts: [{ ports: [{ port: http, protocol: TCP }] }] }] }",
      ),
    traffic: ["from: shop/client, to: shop/odd, port: 8080"],
    ask: explain("shop/client", "shop/odd", "8080"),
    says: [/allows http\/TCP \(9090 there\); you asked for 8080\/TCP/],
    code: 3,
    fix: "manifest",
  },
  {
    name: "only the ping of the other family is allowed",
    manifests: policy("web", `{ ${WEB}, ingress: [{ icmps: [{ fields: [{ family: IPv4, type: 8 }] }] }] }`),
    ask: explain("shop/client", "shop/web-2", "icmpv6"),
    says: [/allows ICMP type 8; you asked for ICMPV6 type 128/],
    code: 3,
  },
  {
    name: "a deny of every address closes the way out",
    manifests: policy(
      "client",
      "{ endpointSelector: { matchLabels: { app: client } }, egress: [{ toEntities: [all] }], egressDeny: [{ toCIDR: [0.0.0.0/0] }] }",
    ),
    ask: explain("shop/client", "world", "443"),
    says: [
      /world of the destination lies in 0\.0\.0\.0\/0/,
      /to allow it Remove cnp:shop\/client spec\.egressDeny\[0\]/,
    ],
    code: 3,
  },
  {
    name: "a policy is in a namespace where nobody is meant",
    manifests: policy("web", allow("app: stranger")).replace("namespace: shop", "namespace: prod"),
    ask: ["policy", "list", "-o", "wide"],
    says: [/nobody/, /no endpoint has app=web,k8s:io\.kubernetes\.pod\.namespace=prod/],
  },
  {
    name: "a CIDR deny is meant for pods, and they come through",
    manifests: policy(
      "web",
      `{ ${WEB}, ingress: [{ fromEntities: [all] }], ingressDeny: [{ fromCIDR: [10.0.0.0/8] }] }`,
    ),
    ask: WHY,
    says: [
      /note +cnp:shop\/web spec\.ingressDeny\[0\]\.fromCIDR\[0\] .*does not deny it: a CIDR rule never means pods/,
    ],
    code: 0,
  },
  {
    name: "a CIDR allow is meant for pods, and they do not come through",
    manifests: policy("web", `{ ${WEB}, ingress: [{ fromCIDR: [10.0.0.0/8] }] }`),
    traffic: TRAFFIC,
    ask: WHY,
    says: [
      /note +cnp:shop\/web .*does not allow it: a CIDR rule never means pods and nodes, say fromEndpoints/,
    ],
    code: 3,
    fix: { says: /say fromEndpoints/, replace: ["fromCIDR: [10.0.0.0/8]", "fromEndpoints: [{}]"] },
  },
  {
    name: "an endpoint of a cgroup has a label with a typo",
    manifests: policy(
      "web",
      `{ ${WEB}, ingress: [{ fromEndpoints: [{ matchLabels: { "any:app": client, "k8s:io.kubernetes.pod.namespace": shop } }] }] }`,
    ),
    setup: [
      ["lab", "exec", "--node", "node-1", "--", "mkdir", "-p", CGROUP],
      [
        "endpoint",
        "add",
        "shop/vm",
        "--cgroup",
        CGROUP,
        "--label",
        "app=cleint",
        "--node",
        "node-1",
        "--wait",
      ],
    ],
    cleanup: [
      ["endpoint", "delete", "shop/vm", "--node", "node-1"],
      ["lab", "exec", "--node", "node-1", "--", "rmdir", CGROUP],
    ],
    ask: explain("shop/vm", "shop/web-2", "8080"),
    says: [
      /Give the source label app=client \(it has cleint\).*: weir endpoint label shop\/vm app=client --node node-1/,
    ],
    code: 3,
    fix: "command",
  },
];
