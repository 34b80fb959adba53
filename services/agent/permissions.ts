/**
 * The table of services: what each is started with. This file alone says who may do what.
 *
 * | service            | user         | files                   | network                    | FFI, programs |
 * | ------------------ | ------------ | ----------------------- | -------------------------- | ------------- |
 * | datapath           | root, 9 caps | everything              | its socket                 | yes           |
 * | endpoint-manager   | unprivileged | its state               | five sockets               | no            |
 * | flow-exporter      | unprivileged | its state               | six sockets                | no            |
 * | identity-allocator | unprivileged | its state               | its socket (and PostgreSQL) | no           |
 * | policy-engine      | unprivileged | its state               | two sockets                | no            |
 * | load-balancer      | unprivileged | its state, its manifests | two sockets               | no            |
 *
 * @module
 */
import type { AgentConfig } from "./config.ts";
import { type Layout, socketOf } from "./layout.ts";

/** How one service is started. */
export interface ServiceSpec {
  readonly name: string;
  readonly role: "node" | "control-plane";
  /** Module relative to the workspace. */
  readonly entry: string;
  /** Runs from its sources as root, else from a bundle as the unprivileged user. */
  readonly privileged: boolean;
  /** Deno's permission flags. */
  readonly permissions: readonly string[];
  /** Arguments of the service. */
  readonly args: readonly string[];
}

/** Capabilities that the datapath keeps; everything else of root's is taken away. */
export const DATAPATH_CAPABILITIES = [
  "bpf",
  "net_admin",
  "perfmon",
  "sys_admin", // setns, and BPF tokens of other kinds
  "sys_ptrace", // opening /proc/PID/ns/net of processes of other users
  "net_raw", // packet sockets for neighbour probes
  "sys_resource", // locked memory of maps on kernels that count it
  "chown", // the socket's group
  "dac_override", // namespaces and cgroups of other users
];

/** The services of this configuration, in the order in which they are started; stopped in reverse. */
export function serviceSpecs(config: AgentConfig, layout: Layout, nodeName: string): ServiceSpec[] {
  const socket = (name: string) => `unix:${socketOf(layout, name)}`;
  const identityAllocator = config.identityAllocator ?? socket("identity-allocator");
  const policyEngine = config.policyEngine ?? socket("policy-engine");
  const loadBalancer = config.loadBalancer ?? (config.controlPlane ? socket("load-balancer") : "");
  const specs: ServiceSpec[] = [];
  const add = (
    spec: Omit<ServiceSpec, "permissions" | "args"> & { permissions: string[]; args: string[] },
    peers: string[],
  ) => {
    const own = socketOf(layout, spec.name);
    specs.push({
      ...spec,
      permissions: spec.privileged
        ? spec.permissions
        : [...spec.permissions, ...socketFiles(layout, peers), netPermission([`unix:${own}`, ...peers])],
      args: ["--socket", own, "--supervised", "--log-level", config.logLevel, ...spec.args],
    });
  };
  const state = `${layout.state}/`;
  add({
    name: "datapath",
    role: "node",
    entry: "datapath/service/main.ts",
    privileged: true,
    // It reads /proc and /sys, which Deno gives to --allow-all only.
    permissions: ["--allow-all"],
    args: [
      "--instance",
      layout.instance,
      ...optional("--ct-entries-max", config.ctEntriesMax?.toString() ?? ""),
      ...optional("--nat-entries-max", config.natEntriesMax?.toString() ?? ""),
    ],
  }, []);
  if (config.controlPlane) {
    const postgres = config.databaseUrl === "" ? [] : [databaseHost(config.databaseUrl)];
    add({
      name: "identity-allocator",
      role: "control-plane",
      entry: "services/identity-allocator/main.ts",
      privileged: false,
      permissions: [...files(layout), "--allow-env", "--allow-sys=hostname"],
      args: ["--database-url", config.databaseUrl || `sqlite:${state}identity.db`],
    }, postgres);
    add({
      name: "policy-engine",
      role: "control-plane",
      entry: "services/policy-engine/main.ts",
      privileged: false,
      permissions: [...files(layout), "--allow-env", "--allow-sys=hostname"],
      args: [
        "--identity-allocator",
        identityAllocator,
        "--cluster",
        config.cluster,
        "--database-url",
        config.databaseUrl || `sqlite:${state}policy.db`,
      ],
    }, [identityAllocator, ...postgres]);
    add({
      name: "load-balancer",
      role: "control-plane",
      entry: "services/load-balancer/main.ts",
      privileged: false,
      permissions: [
        ...files(layout),
        ...(config.serviceManifests === "" ? [] : [`--allow-read=${config.serviceManifests}`]),
        "--allow-env",
        "--allow-sys=hostname",
      ],
      args: [
        "--identity-allocator",
        identityAllocator,
        // Empty is a value here: no cluster IPs of this family.
        `--service-cidr-v4=${config.serviceCidrV4}`,
        `--service-cidr-v6=${config.serviceCidrV6}`,
        "--node-ports",
        config.nodePorts,
        "--algorithm",
        config.serviceAlgorithm,
        "--forwarding",
        config.serviceForwarding,
        ...optional("--manifests", config.serviceManifests),
        "--database-url",
        config.databaseUrl || `sqlite:${state}load-balancer.db`,
      ],
    }, [identityAllocator, ...postgres]);
  }
  add({
    name: "endpoint-manager",
    role: "node",
    entry: "services/endpoint-manager/main.ts",
    privileged: false,
    permissions: [...files(layout), "--allow-env=WEIR_*", "--allow-sys=hostname,networkInterfaces"],
    args: [
      "--instance",
      layout.instance,
      "--node",
      nodeName,
      "--cluster",
      config.cluster,
      "--state",
      layout.state,
      "--datapath",
      socket("datapath"),
      "--allocator",
      identityAllocator,
      "--policy-engine",
      policyEngine,
      "--routing",
      config.routingMode,
      ...(config.masquerade ? ["--masquerade"] : []),
      ...(config.masqueradeException ?? []).flatMap((prefix) => ["--masquerade-exceptions", prefix]),
      ...(config.xdp ? ["--xdp"] : []),
      ...(config.noSocketLb ? ["--no-socket-lb"] : []),
      ...(config.noBackendDrop ? ["--no-backend-drop"] : []),
      ...(config.vlanAllow ?? []).flatMap((vlan) => ["--vlan-allow", vlan]),
      ...optional("--zone", config.zone),
      ...optional("--load-balancer", loadBalancer),
      ...optional("--node-ipv4", config.ipv4),
      ...optional("--node-ipv6", config.ipv6),
      ...optional("--mtu", config.mtu ? String(config.mtu) : ""),
      ...config.device.flatMap((device) => ["--devices", device]),
    ],
  }, [socket("datapath"), identityAllocator, policyEngine, ...present(loadBalancer)]);
  add({
    name: "flow-exporter",
    role: "node",
    entry: "services/flow-exporter/main.ts",
    privileged: false,
    permissions: [...files(layout), "--allow-env=WEIR_*", "--allow-sys=hostname"],
    args: [
      "--node",
      nodeName,
      "--cluster",
      config.cluster,
      "--datapath",
      socket("datapath"),
      "--endpoint-manager",
      socket("endpoint-manager"),
      "--allocator",
      identityAllocator,
      "--policy-engine",
      policyEngine,
      ...optional("--load-balancer", loadBalancer),
    ],
  }, [
    socket("datapath"),
    socket("endpoint-manager"),
    identityAllocator,
    policyEngine,
    ...present(loadBalancer),
  ]);
  return specs;
}

/** The words that start a service, with every right taken away that it does not need. */
export function commandOf(
  spec: ServiceSpec,
  layout: Layout,
  modulePath: string,
  configPath: string,
): string[] {
  const deno = [
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-prompt",
    ...(spec.privileged
      ? ["--config", configPath, "--unstable-ffi"]
      : ["--no-config", "--no-lock", "--no-remote"]),
    ...spec.permissions,
    modulePath,
    ...spec.args,
  ];
  const drop = spec.privileged
    ? [`--bounding-set=-all,${DATAPATH_CAPABILITIES.map((name) => `+${name}`).join(",")}`]
    : [`--reuid=${layout.uid}`, `--regid=${layout.gid}`, "--clear-groups", "--bounding-set=-all"];
  return ["setpriv", ...drop, "--inh-caps=-all", "--no-new-privs", "--", ...deno];
}

function files(layout: Layout): string[] {
  return [
    `--allow-read=${layout.sockets},${layout.state}`,
    `--allow-write=${layout.sockets},${layout.state}`,
  ];
}

/** Sockets of other instances: beyond the network, Deno asks for the files. */
function socketFiles(layout: Layout, peers: string[]): string[] {
  const paths = peers.filter((peer) => peer.startsWith("unix:")).map((peer) => peer.slice("unix:".length))
    .filter((path) => !path.startsWith(`${layout.sockets}/`));
  return paths.length === 0 ? [] : [`--allow-read=${paths.join(",")}`, `--allow-write=${paths.join(",")}`];
}

/** Deno asks for the socket and for the host name in the URL that is fetched through it. */
function netPermission(addresses: string[]): string {
  const hosts = addresses.map((address) => address.startsWith("unix:") ? address : hostOf(address));
  return `--allow-net=${[...new Set([...hosts, "localhost:80"])].join(",")}`;
}

function hostOf(address: string): string {
  const url = new URL(address.includes("://") ? address : `http://${address}`);
  return `${url.hostname}:${url.port || (url.protocol === "https:" ? 443 : 80)}`;
}

function databaseHost(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  const directory = url.searchParams.get("host");
  if (directory?.startsWith("/")) return `unix:${directory}/.s.PGSQL.${url.port || 5432}`;
  return `${url.hostname}:${url.port || 5432}`;
}

function present(address: string): string[] {
  return address === "" ? [] : [address];
}

function optional(flag: string, value: string): string[] {
  return value === "" ? [] : [flag, value];
}
