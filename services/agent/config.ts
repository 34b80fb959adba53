/**
 * Configuration of the agent: flags, `WEIR_*` environment, or a YAML file given with `--config`.
 *
 * @module
 */
import { type Config, type ConfigSpec, loadConfig } from "@weir/common";

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
  databaseUrl: {
    kind: "text",
    default: "",
    description: "PostgreSQL of the control plane (default: SQLite)",
  },
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
  supervised: { kind: "flag", description: "end when standard input closes" },
} as const satisfies ConfigSpec;

/** Values of {@link AGENT_CONFIG}. */
export type AgentConfig = Config<typeof AGENT_CONFIG>;

/** A configuration that cannot be honoured. */
export class AgentConfigError extends Error {
  override readonly name = "AgentConfigError";
}

/** Reads and checks the configuration. */
export function readAgentConfig(args: readonly string[] = Deno.args): AgentConfig {
  const config = loadConfig(AGENT_CONFIG, { args });
  if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(config.instance)) {
    throw new AgentConfigError(
      `Cannot take instance "${config.instance}": expected up to 41 of a-z, 0-9 and -, first no dash`,
    );
  }
  if (config.routingMode !== "tunnel" && config.routingMode !== "direct") {
    throw new AgentConfigError(`Cannot take routing mode "${config.routingMode}": expected tunnel or direct`);
  }
  if (!config.controlPlane && (config.identityAllocator === undefined || config.policyEngine === undefined)) {
    throw new AgentConfigError(
      "Cannot start without a control plane: give --control-plane to run it here, or --identity-allocator and --policy-engine with its addresses",
    );
  }
  return config;
}
