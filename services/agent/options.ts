/** Options of `weir agent`, for the agent and for its manual: data alone, so that help does not load the agent. @module */
import type { ConfigSpec } from "@weir/common/config";
import { EXPORT_CONFIG } from "@weir/flow-exporter/export-options";
import { REDACTION_CONFIG } from "@weir/flow-exporter/l7-options";

/** Options of `weir agent`. */
export const AGENT_CONFIG = {
  controlPlane: { kind: "flag", description: "run the cluster's services too" },
  noNode: {
    kind: "flag",
    description: "of the control plane: run no services of the node, which another agent runs, or nobody",
  },
  instance: {
    kind: "text",
    description: "owner mark: names pins, sockets and state (default: host; control-plane with --no-node)",
  },
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
  policyCidrMatch: {
    kind: "list",
    description:
      "whom CIDR rules mean beside addresses outside of the cluster: pods, at the price of one identity per pod (default: nobody)",
  },
  enablePolicy: {
    kind: "text",
    default: "default",
    description:
      "when policies are enforced on this node: default (where some policy is about the direction), always or never; an endpoint may say it itself",
  },
  policyAuditMode: {
    kind: "flag",
    description:
      "drop nothing by policy on this node: what would be dropped passes, and is told as AUDIT; an endpoint may say it itself",
  },
  cgroupRoot: {
    kind: "text",
    default: "",
    description: "directory with the host's control groups, in a container (default: found)",
  },
  sysctlDirectory: {
    kind: "text",
    default: "",
    description: "directory with the host's /proc/sys/net, in a container (default: /proc/sys/net)",
  },
  nodeLabel: {
    kind: "list",
    description:
      "KEY=VALUE by which policies select this node (nodeSelector), beside its labels in Kubernetes; may be repeated",
  },
  noHostFirewall: {
    kind: "flag",
    description: "policies with a nodeSelector do nothing on this node",
  },
  sshPort: {
    kind: "list",
    default: ["22"],
    description:
      "port of this node's SSH server, whose open connections no policy cuts (default: 22); may be repeated",
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

  kubernetesService: {
    kind: "text",
    description:
      "address of the service kubernetes, which describes this node's pods (default: this node's own with --kubernetes, of the cluster with --kubernetes-join, else none)",
  },
  ipam: {
    kind: "text",
    default: "cluster-pool",
    description: "who gives this node's pod CIDRs: cluster-pool (Weir), or kubernetes (Node.spec.podCIDRs)",
  },
  podPoolV4: {
    kind: "text",
    description:
      "of the control plane: prefix that the nodes' pod CIDRs are of (default: 10.0.0.0/8); empty: none of this family",
  },
  podLengthV4: {
    kind: "number",
    min: 8,
    max: 30,
    description: "of the control plane: length of a node's pod CIDR (default: 24)",
  },
  podPoolV6: {
    kind: "text",
    description:
      "of the control plane: prefix that the nodes' pod CIDRs are of (default: fd57:6569:7200::/48); empty: none of this family",
  },
  podLengthV6: {
    kind: "number",
    min: 32,
    max: 124,
    description: "of the control plane: length of a node's pod CIDR (default: 112)",
  },
  cniConfDirectory: {
    kind: "text",
    default: "",
    description:
      "directory of the container runtime's network configurations, such as /etc/cni/net.d: tell it when pods may come (default: not)",
  },
  cniBinaryDirectory: {
    kind: "text",
    default: "",
    description: "directory of its CNI plugins, such as /opt/cni/bin; with --cni-conf-directory",
  },
  kubernetes: {
    kind: "flag",
    description: "of the control plane: follow Kubernetes' API server, and let the nodes' pods join",
  },
  kubernetesApiServer: {
    kind: "text",
    default: "",
    description:
      "URL of the API server (default: the service address that a pod is told, which leads nowhere before Weir runs where kube-proxy does not)",
  },
  kubernetesNamespace: {
    kind: "text",
    default: "weir-system",
    description: "namespace of Weir's own objects in Kubernetes",
  },
  kubernetesNodeServiceAccount: {
    kind: "text",
    default: "weir-node",
    description: "service account of the nodes' pods, whose tokens let them join",
  },
  kubernetesCiliumEndpoints: {
    kind: "flag",
    description: "write one CiliumEndpoint for each pod beside the slices, for tools that read only those",
  },
  kubernetesServiceAccountDirectory: {
    kind: "text",
    default: "/var/run/secrets/kubernetes.io/serviceaccount",
    description:
      "directory with the token and the ca.crt that are shown to the API server, and believed of it",
  },
  kubernetesJoin: {
    kind: "text",
    default: "",
    description:
      "directory with token, cluster, addresses and authority.crt: join that cluster as a node, and follow it (default: not)",
  },
  healthListen: {
    kind: "text",
    default: "",
    description: "ADDRESS:PORT of loopback that answers /livez and /readyz, for probes (default: none)",
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
  noUi: { kind: "flag", description: "of the control plane: no web page that is always there" },
  uiListen: {
    kind: "text",
    default: "127.0.0.1:12000",
    description:
      "of the control plane: ADDRESS[:12000] with the web page beside its unix socket, for browsers that weir ui lets in; beyond loopback with TLS; empty: none",
  },
  uiTlsDirectory: {
    kind: "text",
    default: "",
    description:
      "directory with node.crt and node.key for --ui-listen, and ca.crt for certificates of browsers",
  },
  uiTokenFile: {
    kind: "text",
    default: "",
    description: "file with a token that lets in at --ui-listen too (?token=...), readable for group weir",
  },
  uiHost: {
    kind: "list",
    description: "another name by which browsers reach the web page; others are refused; may be repeated",
  },
  uiBasePath: {
    kind: "text",
    default: "",
    description: "path below which the web page is, as behind a proxy: /weir",
  },
  uiLab: {
    kind: "text",
    default: "",
    description: "lab that this node is of, for the commands that the web page shows",
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
  ...REDACTION_CONFIG,
  noL7Proxy: {
    kind: "flag",
    description: "run no L7 proxy: connections for which a policy has L7 rules are refused",
  },
  l7ProxyPort: {
    kind: "number",
    default: 15_001,
    min: 1,
    max: 65_535,
    description: "port of this node at which the L7 proxy takes what the datapath redirects to it",
  },
  l7ProxyWorkers: {
    kind: "number",
    default: 1,
    min: 1,
    max: 64,
    description:
      "processes of the L7 proxy, which share connections and UDP flows; each uses one core at most, and one UDP port from l7ProxyPort on",
  },
  l7HandlePrefixV4: {
    kind: "text",
    default: "240.0.0.0/8",
    description:
      "IPv4 prefix, /8 or longer, that nothing else uses: addresses of redirected connections, never on a wire; empty: no L7 rules for IPv4",
  },
  l7HandlePrefixV6: {
    kind: "text",
    default: "fd57:4c37::/64",
    description: "the same of IPv6, a /64; empty: no L7 rules for IPv6",
  },
  l7DnsDenial: {
    kind: "text",
    default: "refused",
    description:
      "how a pod's question for a name is answered that no DNS rule allows: refused, or nxdomain for resolvers that give up at a refusal",
  },
  runDirectory: { kind: "text", default: "/run/weir", env: "WEIR_RUN_DIR", description: "where sockets are" },
  stateDirectory: {
    kind: "text",
    default: "/var/lib/weir",
    env: "WEIR_STATE_DIR",
    description: "where state is kept",
  },
  logLevel: { kind: "text", default: "info", description: "debug, info, warn or error" },
  namesMinTtl: {
    kind: "number",
    min: 1,
    max: 86_400,
    description:
      "an answer to a pod's question for a name counts for so many seconds at least, where policies mean the name (default: 60)",
  },
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
  handleEntriesMax: {
    kind: "number",
    min: 16,
    max: 32_768,
    description: "connections that this node's L7 proxy judges at once (default: 32768)",
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
