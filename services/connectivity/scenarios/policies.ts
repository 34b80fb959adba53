/** Scenarios of policies from layer 3 to 4, each in a namespace of its own. @module */
import { ALT, HOST_HTTP, HTTP, PLAIN } from "../pods.ts";
import {
  type Action,
  type Destination,
  type Outcome,
  pod,
  type Scenario,
  type Source,
  world,
} from "../scenario.ts";
import type { Protocol } from "../traffic.ts";

const CLIENT: Source = { pod: "client" }, CLIENT2: Source = { pod: "client2" };
const STRANGER: Source = { pod: "plain/client" };
const ECHO = pod("echo", HTTP), ECHO_ALT = pod("echo", ALT);
const OUTSIDE = { outside: true };

/** Name of the policy of every scenario. */
const POLICY = "scenario";

const allowed = (side?: "ingress" | "egress"): Outcome => ({
  kind: "answered",
  ...(side === undefined ? {} : { policies: { [side]: POLICY } }),
});
const denied = (
  side: "ingress" | "egress",
  reason: "POLICY_DENIED" | "POLICY_DENY" = "POLICY_DENIED",
): Outcome => ({
  kind: "dropped",
  side,
  reason,
  policy: POLICY,
});
const sends = (from: Source, to: Destination, expect: Outcome, protocol: Protocol = "TCP"): Action => ({
  from,
  to,
  protocol,
  expect,
});

/** A CiliumNetworkPolicy that selects pods of this kind. */
const cnp = (kind: string, spec: Record<string, unknown>) => (namespace: string): string =>
  JSON.stringify({
    apiVersion: "cilium.io/v2",
    kind: "CiliumNetworkPolicy",
    metadata: { name: POLICY, namespace },
    spec: { endpointSelector: { matchLabels: { kind } }, ...spec },
  }) + "\n";

/** A NetworkPolicy that selects pods of this kind. */
const knp = (kind: string, spec: Record<string, unknown>) => (namespace: string): string =>
  JSON.stringify({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: POLICY, namespace },
    spec: { podSelector: { matchLabels: { kind } }, ...spec },
  }) + "\n";

const labels = (matchLabels: Record<string, string>) => ({ matchLabels });
const tcp = (port: number | string, endPort?: number) => ({
  port: `${port}`,
  protocol: "TCP",
  ...(endPort === undefined ? {} : { endPort }),
});
const ports = (...list: ReturnType<typeof tcp>[]) => [{ ports: list }];

/** Who may come in from pods: client2 alone. */
const ONLY_CLIENT2: Action[] = [
  sends(CLIENT2, ECHO, allowed("ingress")),
  sends(CLIENT, ECHO, denied("ingress")),
  sends(STRANGER, ECHO, denied("ingress")),
];

/** Scenarios that change policies: each has its namespace for itself. */
export const POLICY_SCENARIOS: readonly Scenario[] = [
  {
    name: "allow-all",
    says: "policies that allow everything let everything through, and are named",
    policies: cnp("echo", { ingress: [{ fromEntities: ["all"] }] }),
    actions: [sends(CLIENT, ECHO, allowed("ingress")), sends(STRANGER, ECHO, allowed("ingress"), "UDP")],
  },
  {
    name: "all-ingress-deny",
    says: "nothing comes in where nothing is allowed, and answers to what a pod asks do",
    policies: cnp("client", { ingress: [{}] }),
    actions: [
      sends(STRANGER, pod("client", 0), denied("ingress"), "ICMP"),
      sends(CLIENT, ECHO, allowed()),
      sends(CLIENT, ECHO, allowed(), "UDP"),
    ],
  },
  {
    name: "all-ingress-deny-knp",
    says: "the same by a NetworkPolicy",
    policies: knp("echo", { policyTypes: ["Ingress"] }),
    actions: [
      sends(CLIENT, ECHO, denied("ingress")),
      sends(CLIENT, ECHO, denied("ingress"), "UDP"),
      sends(CLIENT, pod("echo", 0), denied("ingress"), "ICMP"),
    ],
  },
  {
    name: "all-egress-deny",
    says: "nothing goes out where nothing is allowed",
    policies: cnp("client", { egress: [{}] }),
    actions: [
      sends(CLIENT, ECHO, denied("egress")),
      sends(CLIENT, ECHO, denied("egress"), "UDP"),
      sends(CLIENT, pod("echo", 0), denied("egress"), "ICMP"),
    ],
  },
  {
    name: "all-egress-deny-knp",
    says: "the same by a NetworkPolicy, and others still come in",
    policies: knp("client", { policyTypes: ["Egress"] }),
    actions: [
      sends(CLIENT, ECHO, denied("egress")),
      sends(STRANGER, pod("client", 0), allowed(), "ICMP"),
    ],
  },
  {
    name: "all-entities-deny",
    says: "a deny of everything wins over an allow of everything",
    policies: cnp("client", { egress: [{ toEntities: ["all"] }], egressDeny: [{ toEntities: ["all"] }] }),
    actions: [sends(CLIENT, ECHO, denied("egress", "POLICY_DENY"))],
  },
  {
    name: "cluster-entity",
    says: "the entity cluster means pods and nodes, and nobody else",
    needs: OUTSIDE,
    policies: cnp("echo", { ingress: [{ fromEntities: ["cluster"] }] }),
    actions: [
      sends(CLIENT, ECHO, allowed("ingress")),
      sends({ node: 0 }, ECHO, allowed()),
      sends("outside", ECHO, denied("ingress")),
    ],
  },
  {
    name: "host-entity-egress",
    says: "the entity host means the pod's own node, and no other",
    needs: { nodes: 2 },
    policies: cnp("client", { egress: [{ toEntities: ["host"] }] }),
    actions: [
      sends(CLIENT, pod("plain/echo-host-1", HOST_HTTP), allowed()),
      sends(CLIENT, pod("plain/echo-host-2", HOST_HTTP), denied("egress")),
      sends(CLIENT, ECHO, denied("egress")),
    ],
  },
  {
    name: "remote-node-entity-egress",
    says: "the entity remote-node means other nodes, and not their pods",
    needs: { nodes: 2 },
    policies: cnp("client", { egress: [{ toEntities: ["remote-node"] }] }),
    actions: [
      sends(CLIENT, pod("plain/echo-host-2", HOST_HTTP), allowed("egress")),
      sends(CLIENT, ECHO, denied("egress")),
    ],
  },
  {
    name: "host-to-pod-under-policy",
    says: "a pod's own node reaches it whatever policies say",
    policies: cnp("client", { ingress: [{}] }),
    actions: [sends({ node: 0 }, pod("client", 0), allowed(), "ICMP")],
  },
  {
    name: "world-entity-egress",
    says: "the entity world means what is outside of the cluster",
    needs: OUTSIDE,
    policies: cnp("client", { egress: [{ toEntities: ["world"] }] }),
    actions: [sends(CLIENT, world(0, HTTP), allowed("egress")), sends(CLIENT, ECHO, denied("egress"))],
  },
  {
    name: "to-entities-world-port",
    says: "the world on one port, and on no other",
    needs: OUTSIDE,
    policies: cnp("client", { egress: [{ toEntities: ["world"], toPorts: ports(tcp(HTTP)) }] }),
    actions: [
      sends(CLIENT, world(0, HTTP), allowed("egress")),
      sends(CLIENT, world(0, ALT), denied("egress")),
    ],
  },
  {
    name: "echo-ingress",
    says: "only pods with the label come in",
    policies: cnp("echo", { ingress: [{ fromEndpoints: [labels({ other: "client" })] }] }),
    actions: ONLY_CLIENT2,
  },
  {
    name: "echo-ingress-knp",
    says: "the same by a NetworkPolicy",
    policies: knp("echo", { ingress: [{ from: [{ podSelector: labels({ other: "client" }) }] }] }),
    actions: ONLY_CLIENT2,
  },
  {
    name: "client-ingress-icmp",
    says: "echo requests alone are allowed",
    policies: cnp("echo", {
      ingress: [{ icmps: [{ fields: [{ family: "IPv4", type: 8 }, { family: "IPv6", type: 128 }] }] }],
    }),
    actions: [
      sends(CLIENT, pod("echo", 0), allowed("ingress"), "ICMP"),
      sends(CLIENT, ECHO, denied("ingress")),
    ],
  },
  {
    name: "client-ingress-icmp-deny",
    says: "echo requests alone are denied",
    policies: cnp("echo", {
      ingress: [{ fromEntities: ["all"] }],
      ingressDeny: [{ icmps: [{ fields: [{ family: "IPv4", type: 8 }, { family: "IPv6", type: 128 }] }] }],
    }),
    actions: [
      sends(CLIENT, pod("echo", 0), denied("ingress", "POLICY_DENY"), "ICMP"),
      sends(CLIENT, ECHO, allowed("ingress")),
    ],
  },
  {
    name: "named-port",
    says: "a port's name opens that port",
    policies: cnp("echo", { ingress: [{ toPorts: ports(tcp("http")) }] }),
    actions: [sends(CLIENT, ECHO, allowed("ingress")), sends(CLIENT, ECHO_ALT, denied("ingress"))],
  },
  {
    name: "named-port-deny",
    says: "a port's name denies that port",
    policies: cnp("echo", {
      ingress: [{ fromEntities: ["all"] }],
      ingressDeny: [{ toPorts: ports(tcp("http")) }],
    }),
    actions: [
      sends(CLIENT, ECHO, denied("ingress", "POLICY_DENY")),
      sends(CLIENT, ECHO_ALT, allowed("ingress")),
    ],
  },
  {
    name: "client-egress",
    says: "pods with the label may be reached on one port",
    policies: cnp("client", {
      egress: [{ toEndpoints: [labels({ kind: "echo" })], toPorts: ports(tcp(HTTP)) }],
    }),
    actions: [
      sends(CLIENT, ECHO, allowed("egress")),
      sends(CLIENT, ECHO_ALT, denied("egress")),
      sends(CLIENT, ECHO, denied("egress"), "UDP"),
    ],
  },
  {
    name: "client-egress-knp",
    says: "the same by a NetworkPolicy",
    policies: knp("client", {
      policyTypes: ["Egress"],
      egress: [{ to: [{ podSelector: labels({ kind: "echo" }) }], ports: [{ port: HTTP }] }],
    }),
    actions: [sends(CLIENT, ECHO, allowed("egress")), sends(CLIENT, ECHO_ALT, denied("egress"))],
  },
  {
    name: "client-egress-expression",
    says: "a label's values are listed",
    policies: cnp("client", {
      egress: [{
        toEndpoints: [{ matchExpressions: [{ key: "kind", operator: "In", values: ["echo", "x"] }] }],
      }],
    }),
    actions: [
      sends(CLIENT, ECHO, allowed("egress")),
      sends(CLIENT, pod("client2", 0), denied("egress"), "ICMP"),
    ],
  },
  {
    name: "port-range",
    says: "a range of ports is open, and its neighbours are not",
    policies: cnp("echo", { ingress: [{ toPorts: ports(tcp(HTTP - 80, HTTP)) }] }),
    actions: [sends(CLIENT, ECHO, allowed("ingress")), sends(CLIENT, ECHO_ALT, denied("ingress"))],
  },
  {
    name: "port-range-knp",
    says: "the same by a NetworkPolicy",
    policies: knp("echo", { ingress: [{ ports: [{ port: HTTP - 80, endPort: HTTP }] }] }),
    actions: [sends(CLIENT, ECHO, allowed("ingress")), sends(CLIENT, ECHO_ALT, denied("ingress"))],
  },
  {
    name: "client-egress-to-echo-deny",
    says: "a deny by label wins over an allow of everything",
    policies: cnp("client", {
      egress: [{ toEntities: ["all"] }],
      egressDeny: [{ toEndpoints: [labels({ kind: "echo" })], toPorts: ports(tcp(HTTP)) }],
    }),
    actions: [
      sends(CLIENT, ECHO, denied("egress", "POLICY_DENY")),
      sends(CLIENT, ECHO_ALT, allowed("egress")),
      sends(CLIENT, ECHO, allowed("egress"), "UDP"),
    ],
  },
  {
    name: "udp-only",
    says: "a port is open for UDP, and not for TCP",
    policies: cnp("echo", { ingress: [{ toPorts: [{ ports: [{ port: `${HTTP}`, protocol: "UDP" }] }] }] }),
    actions: [sends(CLIENT, ECHO, allowed("ingress"), "UDP"), sends(CLIENT, ECHO, denied("ingress"))],
  },
  {
    name: "namespace-ingress",
    says: "pods of another namespace come in, those of the own do not",
    policies: cnp("echo", {
      ingress: [{ fromEndpoints: [labels({ "k8s:io.kubernetes.pod.namespace": PLAIN })] }],
    }),
    actions: [sends(STRANGER, ECHO, allowed("ingress")), sends(CLIENT, ECHO, denied("ingress"))],
  },
  {
    name: "namespace-ingress-knp",
    says: "the same by a NetworkPolicy",
    policies: knp("echo", {
      ingress: [{ from: [{ namespaceSelector: labels({ "kubernetes.io/metadata.name": PLAIN }) }] }],
    }),
    actions: [sends(STRANGER, ECHO, allowed("ingress")), sends(CLIENT, ECHO, denied("ingress"))],
  },
  {
    name: "service-account",
    says: "who comes in is told by its service account",
    policies: cnp("echo", {
      ingress: [{ fromEndpoints: [labels({ "io.cilium.k8s.policy.serviceaccount": "client" })] }],
    }),
    actions: [sends(CLIENT, ECHO, allowed("ingress")), sends(CLIENT2, ECHO, denied("ingress"))],
  },
  {
    name: "clusterwide",
    says: "a clusterwide policy applies in the namespace that it names",
    policies: (namespace) =>
      JSON.stringify({
        apiVersion: "cilium.io/v2",
        kind: "CiliumClusterwideNetworkPolicy",
        metadata: { name: `${namespace}-scenario` },
        spec: {
          endpointSelector: labels({ "k8s:io.kubernetes.pod.namespace": namespace, kind: "echo" }),
          ingress: [{
            fromEndpoints: [labels({ "k8s:io.kubernetes.pod.namespace": namespace, other: "client" })],
          }],
        },
      }) + "\n",
    actions: [
      sends(CLIENT2, ECHO, allowed()),
      sends(CLIENT, ECHO, { kind: "dropped", side: "ingress", reason: "POLICY_DENIED" }),
    ],
  },
  {
    name: "to-cidr-except",
    says: "a range of addresses is open but for a part of it",
    needs: OUTSIDE,
    policies: cnp("client", {
      egress: [{
        toCIDRSet: [
          { cidr: "198.51.100.0/24", except: ["198.51.100.20/32"] },
          { cidr: "2001:db8:100::/48", except: ["2001:db8:100::20/128"] },
        ],
      }],
    }),
    actions: [
      sends(CLIENT, world(0, HTTP), allowed("egress")),
      sends(CLIENT, world(1, HTTP), denied("egress")),
      sends(CLIENT, world(2, HTTP), denied("egress")),
    ],
  },
  {
    name: "to-cidr-except-knp",
    says: "the same by a NetworkPolicy",
    needs: OUTSIDE,
    policies: knp("client", {
      policyTypes: ["Egress"],
      egress: [{
        to: [
          { ipBlock: { cidr: "198.51.100.0/24", except: ["198.51.100.20/32"] } },
          { ipBlock: { cidr: "2001:db8:100::/48", except: ["2001:db8:100::20/128"] } },
        ],
      }],
    }),
    actions: [
      sends(CLIENT, world(0, HTTP), allowed("egress")),
      sends(CLIENT, world(1, HTTP), denied("egress")),
      sends(CLIENT, world(2, HTTP), denied("egress")),
    ],
  },
  {
    name: "to-cidr-deny",
    says: "one address is denied, the rest of the world is open",
    needs: OUTSIDE,
    policies: cnp("client", {
      egress: [{ toEntities: ["all"] }],
      egressDeny: [{ toCIDR: ["198.51.100.20/32", "2001:db8:100::20/128"] }],
    }),
    actions: [
      sends(CLIENT, world(0, HTTP), allowed("egress")),
      sends(CLIENT, world(1, HTTP), denied("egress", "POLICY_DENY")),
    ],
  },
  {
    name: "from-cidr",
    says: "machines outside come in by their addresses",
    needs: OUTSIDE,
    policies: cnp("echo", { ingress: [{ fromCIDR: ["172.30.0.100/32", "fd00:30::100/128"] }] }),
    actions: [sends("outside", ECHO, allowed("ingress")), sends(CLIENT, ECHO, denied("ingress"))],
  },
  {
    name: "node-to-policy-deny",
    says: "another node is denied where only pods are allowed",
    needs: { nodes: 2 },
    policies: cnp("echo", { ingress: [{ fromEndpoints: [labels({ kind: "client" })] }] }),
    actions: [sends({ node: 0 }, ECHO, denied("ingress")), sends(CLIENT, ECHO, allowed("ingress"))],
  },
];
