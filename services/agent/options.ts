/** Options of `weir agent`, for the agent and for its manual: data alone, so that help does not load the agent. @module */
import type { ConfigSpec } from "@weir/common/config";
import { EXPORT_CONFIG } from "@weir/flow-exporter/export-options";

/** Options of `weir agent`. */
export const AGENT_CONFIG = {
  controlPlane: { kind: "flag", description: "run the cluster's services too" },
  instance: { kind: "text", default: "host", description: "owner mark: names pins, sockets and state" },
  nodeName: { kind: "text", description: "name of this node (default: the host's name)" },
  cluster: { kind: "text", default: "default", description: "name of the cluster" },
  ipv4: { kind: "text", default: "", description: "this node's IPv4 address (default: found)" },
  ipv6: { kind: "text", default: "", description: "this node's IPv6 address (default: found)" },
  routingMode: { kind: "text", default: "tunnel", description: "tunnel or direct" },
  masquerade: { kind: "flag", description: "pod traffic that leaves the cluster takes this node's address" },
  masqueradeException: {
    kind: "list",
    description: "prefix outside the cluster that sees the pods' own addresses; may be repeated",
  },
  xdp: { kind: "flag", description: "handle services from outside at XDP on the outer devices too" },
  noSocketLb: {
    kind: "flag",
    description: "do not translate services at the sockets of the node and of cgroup endpoints",
  },
  noBackendDrop: {
    kind: "flag",
    description: "stay silent where a service has no backends (default: tell the client)",
  },
  vlanAllow: {
    kind: "list",
    description: "VLAN whose tagged frames pass the outer devices, unjudged (default: none); may be repeated",
  },
  zone: { kind: "text", default: "", description: "zone of this node, for services with topology hints" },
  mtu: {
    kind: "number",
    min: 0,
    max: 65535,
    description: "of the outer device (default: found)",
  },
  device: { kind: "list", description: "outer devices (default: found)" },
  identityAllocator: {
    kind: "text",
    description: "address of the identity allocator (default: this node's own)",
  },
  policyEngine: { kind: "text", description: "address of the policy engine (default: this node's own)" },
  loadBalancer: {
    kind: "text",
    description: "address of the load balancer (default: this node's own, if it runs)",
  },
  serviceCidrV4: {
    kind: "text",
    default: "10.96.0.0/16",
    description: "of the control plane: cluster IPs of services; empty: none of this family",
  },
  serviceCidrV6: {
    kind: "text",
    default: "fd00:10:96::/112",
    description: "of the control plane: cluster IPs of services; empty: none of this family",
  },
  nodePorts: {
    kind: "text",
    default: "30000-32767",
    description: "of the control plane: range of node ports",
  },
  serviceAlgorithm: {
    kind: "text",
    default: "random",
    description: "of the control plane: random or maglev, unless a service says",
  },
  serviceForwarding: {
    kind: "text",
    default: "snat",
    description: "of the control plane: snat or dsr, unless a service says",
  },
  serviceManifests: {
    kind: "text",
    default: "",
    description: "of the control plane: directory of Service and EndpointSlice manifests, watched",
  },
  listen: {
    kind: "text",
    default: "",
    description:
      "of the control plane: ADDRESS[:7440] on which other machines reach it, with mutual TLS (default: not at all)",
  },
  certificateLifetimeS: {
    kind: "number",
    min: 2,
    max: 3650 * 86_400,
    description: "of the control plane: how long a machine's certificate lives (default: 30 days)",
  },
  databaseUrl: {
    kind: "text",
    default: "",
    description:
      "PostgreSQL of the control plane (default: SQLite); with a password only as WEIR_DATABASE_URL or in --config",
  },
  hubbleListen: {
    kind: "text",
    default: "127.0.0.1:4244",
    description:
      "ADDRESS[:4244] with Hubble's API beside its unix socket; beyond loopback with TLS; empty: none",
  },
  hubbleTlsDirectory: {
    kind: "text",
    default: "",
    description:
      "directory with node.crt, node.key and ca.crt for --hubble-listen; clients need a certificate too",
  },
  hubbleRelayListen: {
    kind: "text",
    default: "127.0.0.1:4245",
    description:
      "of the control plane: ADDRESS[:4245] with the flows of all nodes beside its unix socket; beyond loopback with TLS; empty: none",
  },
  hubbleRelayTlsDirectory: {
    kind: "text",
    default: "",
    description:
      "directory with node.crt, node.key and ca.crt for --hubble-relay-listen (default in a cluster: the machine's own that reads); clients need a certificate too: weir cluster certificate",
  },
  hubbleRelayNode: {
    kind: "list",
    description:
      "NAME=PATH of another node whose Hubble socket is on this host, as in a lab; may be repeated",
  },
  noFlowHistory: { kind: "flag", description: "of the control plane: keep no history of flows" },
  flowHistoryPerS: {
    kind: "number",
    default: 1000,
    min: 1,
    max: 100_000,
    description:
      "of the control plane: flows of a second that the history keeps one by one; of more a sample",
  },
  flowHistoryAgeH: {
    kind: "number",
    default: 168,
    min: 1,
    max: 87_600,
    description: "of the control plane: hours that the history keeps flows",
  },
  flowHistorySizeMib: {
    kind: "number",
    default: 2048,
    min: 16,
    max: 1 << 24,
    description: "of the control plane: MiB that the history may take",
  },
  hubbleMetrics: {
    kind: "text",
    default: "default",
    description: "what is counted for Prometheus, as Hubble's option says it; empty: nothing",
  },
  hubbleMetricsListen: {
    kind: "text",
    default: "",
    description:
      "ADDRESS[:9965] with metrics for Prometheus, in plain text for whoever reaches it (default: none)",
  },
  ...EXPORT_CONFIG,
  runDirectory: { kind: "text", default: "/run/weir", env: "WEIR_RUN_DIR", description: "where sockets are" },
  stateDirectory: {
    kind: "text",
    default: "/var/lib/weir",
    env: "WEIR_STATE_DIR",
    description: "where state is kept",
  },
  logLevel: { kind: "text", default: "info", description: "debug, info, warn or error" },
  ctEntriesMax: {
    kind: "number",
    min: 16,
    max: 1 << 24,
    description: "flows of this node (default: 131072)",
  },
  natEntriesMax: {
    kind: "number",
    min: 16,
    max: 1 << 24,
    description: "translated flows of this node, two entries each (default: 131072)",
  },
  hungAfterS: {
    kind: "number",
    default: 20,
    min: 1,
    max: 3600,
    description: "a service that does not answer for this long is started anew",
  },
  supervised: { kind: "flag", description: "end when standard input closes" },
} as const satisfies ConfigSpec;
