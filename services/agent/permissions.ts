/**
 * The table of services: what each is started with. This file alone says who may do what.
 *
 * | service            | user         | files                   | network                    | FFI, programs |
 * | ------------------ | ------------ | ----------------------- | -------------------------- | ------------- |
 * | datapath           | root, 9 caps | everything              | its socket                 | yes           |
 * | endpoint-manager   | unprivileged | its state, deletions that the CNI plugin left | eight sockets | no      |
 * | l7-proxy           | unprivileged | its state               | its socket, the datapath's for reading, the flow exporter's for records, the endpoint manager's for names; its port, and of IPv4 the handles' prefix alone (of IPv6 Deno has no words for one; its control group holds it to handles in both) | no |
 * | flow-exporter      | unprivileged | directories that flows are exported to | six sockets, for reading; Hubble's socket and port; the endpoint that takes OTLP | no |
 * | certificate-authority | unprivileged | its state, the machine's certificate and withdrawals | its socket, its port (and PostgreSQL) | no |
 * | identity-allocator | unprivileged | its state               | its socket (and PostgreSQL) | no           |
 * | policy-engine      | unprivileged | its state               | two sockets                | no            |
 * | load-balancer      | unprivileged | its state, its manifests | two sockets               | no            |
 * | relay              | unprivileged | none                    | two sockets, for reading; its own socket and port | no |
 * | kubernetes         | unprivileged | none, reads its pod's token | three sockets, the authority's port, the API server of Kubernetes | no |
 * | flow-history       | unprivileged | its state               | three sockets, for reading (and PostgreSQL) | no |
 * | ui                 | unprivileged | its state, the page's files | five sockets of the cluster and three of each node of this host, for reading; the page's socket and port | no |
 *
 * "Its state" is a directory of its own, mode 0700. Of the directory of sockets a service may touch its own socket and
 * those that it speaks to, and what is secret comes by its environment, never by an argument. Who only reads from a service of
 * its machine has that one's socket for reading.
 *
 * With `--listen` the cluster's services also have a port, the authority's socket for reading and the machine's certificate:
 * its other socket, which gives certificates, is root's alone (mode 0600). On a machine that joined, the endpoint manager has the
 * control plane's ports and the machine's certificate, the flow exporter the ports and a certificate that reads. With that one the
 * flow exporters show their flows on the machine's address (4244), and the relay asks for them: every IPv4 address of that port, or,
 * where the control plane listens on an IPv6 address, the network as a whole, for Deno has no narrower words for that.
 *
 * All unprivileged services are one user. What keeps one from another's files is what Deno lets it open, in one process with
 * neither FFI nor programs; the kernel keeps them from root's.
 *
 * @module
 */
import {
  credentialPaths,
  formatAccess,
  hostPort,
  HUBBLE_PORT,
  IpAddress,
  isLoopback,
  METRICS_PORT,
  nodeAddress,
  parseHostPort,
  type PlaneService,
  Prefix,
  readerDirectory,
  RELAY_PORT,
  SERVICE_PORTS,
  withdrawalsPath,
} from "@weir/common";
import { ACCESS } from "./access.ts";
import { codeOf } from "./bundle.ts";
import type { AgentConfig } from "./config.ts";
import { exportAccess, redactionArgs } from "./export_access.ts";
import {
  cniDeletionsOf,
  cniSocketOf,
  hubbleSocketOf,
  l7RecordsSocketOf,
  type Layout,
  namesSocketOf,
  readSocketOf,
  relaySocketOf,
  socketOf,
  stateOf,
} from "./layout.ts";
import { listenTarget, optional, present, where } from "./spec_words.ts";
import { hostFailsafes } from "./failsafe.ts";
import { kubernetesSpec } from "./kubernetes_spec.ts";
import { EVERY_ADDRESS, l7ProxyNames, l7ProxySpecs, proxyArgs } from "./l7_proxy_spec.ts";
import { inCgroup } from "./proxy_cgroup.ts";
import type { ServiceSpec, SpecParts } from "./service_spec.ts";
import { uiSpec } from "./ui_spec.ts";

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

/** Files that a service opens beside its connections: databases, sockets of peers, sources. */
const OTHER_FILES = 512;

/**
 * The services of this configuration, in the order in which they are started; stopped in reverse.
 * @param openFilesMax files that each of them may have open; default: their own limit of connections
 */
export function serviceSpecs(
  config: AgentConfig,
  layout: Layout,
  nodeName: string,
  openFilesMax?: number,
): ServiceSpec[] {
  const reader = readerDirectory(layout.state);
  const socket = (name: string) => `unix:${socketOf(layout, name)}`;
  const reading = (name: string) => `unix:${readSocketOf(layout, name)}`;
  const identityAllocator = config.identityAllocator ?? socket("identity-allocator");
  const policyEngine = config.policyEngine ?? socket("policy-engine");
  /** Where those ask who change nothing there. */
  const readFrom = {
    identityAllocator: config.identityAllocator ?? reading("identity-allocator"),
    policyEngine: config.policyEngine ?? reading("policy-engine"),
    loadBalancer: config.loadBalancer ?? (config.controlPlane ? reading("load-balancer") : ""),
  };
  const kubernetesService = config.kubernetesService ?? (config.kubernetes ? socket("kubernetes") : "");
  /** The same with the certificate that reads, where there is one. */
  const asReader = (address: string) => {
    const own = `#${layout.state}`;
    return !config.controlPlane && address.endsWith(own)
      ? address.slice(0, -own.length) + `#${reader}`
      : address;
  };
  const l7Proxies = l7ProxyNames(config).map(socket);
  const specs: ServiceSpec[] = [];
  const add = (spec: SpecParts, peers: string[]) => {
    const own = socketOf(layout, spec.name);
    const read = spec.hasReadSocket ? [readSocketOf(layout, spec.name)] : [];
    const answers = tcpOf(spec.name);
    const spoken = [...[own, ...read].map((path) => `unix:${path}`), ...peers, ...answers.spoken];
    specs.push({
      ...spec,
      permissions: spec.privileged
        ? spec.permissions
        : [...spec.permissions, ...files(layout, spec, spoken), netPermission(spoken)],
      args: [
        "--socket",
        own,
        ...read.flatMap((path) => ["--read-socket", path]),
        "--supervised",
        "--log-level",
        config.logLevel,
        ...answers.args,
        ...spec.args,
      ],
    });
  };
  /** Where the relays of the cluster ask for this machine's flows; undefined where it has no certificate, or shows no flows. */
  function clusterListenOf(): { listen: string; authority: string } | undefined {
    const authority = config.controlPlane ? reading("certificate-authority") : config.authority ?? "";
    const hasCertificate = config.controlPlane ? config.listen !== "" : authority !== "";
    if (!hasCertificate || config.hubbleListen === "") return undefined;
    const address = config.ipv4 || config.ipv6 || foundAddress();
    return address === ""
      ? undefined
      : { listen: hostPort(address, HUBBLE_PORT), authority: asReader(authority) };
  }
  /** What a service needs to answer other machines. */
  function tcpOf(name: string): { args: string[]; spoken: string[] } {
    if (config.listen === "" || !(name in SERVICE_PORTS)) return { args: [], spoken: [] };
    const { hostname, port } = parseHostPort(config.listen)!;
    const listen = hostPort(hostname, port + SERVICE_PORTS[name as PlaneService]);
    const trust = name === "certificate-authority" ? [] : [reading("certificate-authority")];
    return {
      args: [
        "--listen",
        listen,
        "--tls-directory",
        layout.state,
        ...trust.flatMap((address) => ["--trust", address]),
        ...optional(
          "--connections-max",
          openFilesMax === undefined
            ? ""
            : `${Math.max(openFilesMax - OTHER_FILES, Math.ceil(openFilesMax / 2))}`,
        ),
        "--access",
        formatAccess(ACCESS[name]),
      ],
      spoken: [`https://${listen}#${layout.state}`, ...trust],
    };
  }
  // Of the database: SQLite in the service's own directory by an argument, a URL that may carry a password never.
  const database = (
    name: string,
    file: string,
  ): { args: string[]; secrets: Record<string, string> } =>
    config.databaseUrl === ""
      ? { args: ["--database-url", `sqlite:${stateOf(layout, name)}/${file}`], secrets: {} }
      : { args: [], secrets: { WEIR_DATABASE_URL: config.databaseUrl } };
  add({
    name: "datapath",
    role: "node",
    entry: "datapath/service/main.ts",
    privileged: true,
    // It reads /proc and /sys, which Deno gives to --allow-all only.
    permissions: ["--allow-all"],
    hasReadSocket: true,
    args: [
      "--instance",
      layout.instance,
      ...optional("--ct-entries-max", config.ctEntriesMax?.toString() ?? ""),
      ...optional("--nat-entries-max", config.natEntriesMax?.toString() ?? ""),
      ...optional("--handle-entries-max", config.handleEntriesMax?.toString() ?? ""),
      ...optional("--cgroup-root", config.cgroupRoot),
      ...optional("--proxy-cgroup", layout.proxyCgroup ?? ""),
      ...optional("--sysctl-directory", config.sysctlDirectory),
    ],
  }, []);
  for (const { spec, peers } of l7ProxySpecs(config, layout)) add(spec, peers);
  if (config.controlPlane) {
    const postgres = config.databaseUrl === "" ? [] : [databaseHost(config.databaseUrl)];
    if (config.listen !== "") {
      const { args, secrets } = database("certificate-authority", "certificate-authority.db");
      add({
        name: "certificate-authority",
        role: "control-plane",
        entry: "services/certificate-authority/main.ts",
        privileged: false,
        hasState: true,
        hasReadSocket: true,
        permissions: [`--allow-read=${withdrawalsPath(layout.state)}`, "--allow-env", "--allow-sys=hostname"],
        secrets,
        args: [
          "--cluster",
          config.cluster,
          "--withdrawals",
          withdrawalsPath(layout.state),
          "--authority",
          credentialPaths(layout.state).authority,
          ...optional("--certificate-lifetime-s", config.certificateLifetimeS?.toString() ?? ""),
          ...args,
        ],
      }, postgres);
    }
    const identities = database("identity-allocator", "identity.db");
    // No node may say that the address of the control plane is its own.
    const own = config.listen === "" ? "" : parseHostPort(config.listen)!.hostname.replace(/^\[|\]$/g, "");
    add({
      name: "identity-allocator",
      role: "control-plane",
      entry: "services/identity-allocator/main.ts",
      privileged: false,
      hasState: true,
      hasReadSocket: true,
      permissions: ["--allow-env", "--allow-sys=hostname"],
      secrets: identities.secrets,
      args: [
        ...identities.args,
        // Empty is a value here too.
        ...(config.podPoolV4 === undefined ? [] : [`--pod-pool-v4=${config.podPoolV4}`]),
        ...optional("--pod-length-v4", config.podLengthV4?.toString() ?? ""),
        ...(config.podPoolV6 === undefined ? [] : [`--pod-pool-v6=${config.podPoolV6}`]),
        ...optional("--pod-length-v6", config.podLengthV6?.toString() ?? ""),
        // Beside it an agent of its own may run the node, whose address it is.
        ...optional(
          "--protected-prefixes",
          config.noNode || IpAddress.tryParse(own) === undefined ? "" : hostPrefix(own),
        ),
      ],
    }, postgres);
    add({
      name: "policy-engine",
      role: "control-plane",
      entry: "services/policy-engine/main.ts",
      privileged: false,
      hasState: true,
      hasReadSocket: true,
      permissions: ["--allow-env", "--allow-sys=hostname"],
      secrets: database("policy-engine", "policy.db").secrets,
      args: [
        "--identity-allocator",
        readFrom.identityAllocator,
        "--load-balancer",
        readFrom.loadBalancer,
        "--cluster",
        config.cluster,
        ...where(config.kubernetes, "--await-kubernetes"),
        ...database("policy-engine", "policy.db").args,
      ],
    }, [readFrom.identityAllocator, readFrom.loadBalancer, ...postgres]);
    add({
      name: "load-balancer",
      role: "control-plane",
      entry: "services/load-balancer/main.ts",
      privileged: false,
      hasState: true,
      hasReadSocket: true,
      permissions: [
        ...(config.serviceManifests === "" ? [] : [`--allow-read=${config.serviceManifests}`]),
        "--allow-env",
        "--allow-sys=hostname",
      ],
      secrets: database("load-balancer", "load-balancer.db").secrets,
      args: [
        "--identity-allocator",
        readFrom.identityAllocator,
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
        ...where(config.kubernetes, "--await-kubernetes"),
        ...database("load-balancer", "load-balancer.db").args,
      ],
    }, [readFrom.identityAllocator, ...postgres]);
  }
  const names = config.noL7Proxy ? [] : [namesSocketOf(layout)];
  add({
    name: "endpoint-manager",
    role: "node",
    entry: "services/endpoint-manager/main.ts",
    privileged: false,
    hasState: true,
    hasReadSocket: true,
    moreSockets: [cniSocketOf(layout), ...names],
    permissions: [
      "--allow-env=WEIR_*",
      "--allow-sys=hostname,networkInterfaces",
      `--allow-read=${cniDeletionsOf(layout)}`,
      `--allow-write=${cniDeletionsOf(layout)}`,
      // Health check node ports are whatever services say. Deno's word for listening on every port of the machine is the address
      // that listens everywhere; what it could connect to by it is this machine's own.
      "--allow-net=0.0.0.0,[::]",
    ],
    args: [
      "--instance",
      layout.instance,
      "--node",
      nodeName,
      "--cluster",
      config.cluster,
      "--state",
      stateOf(layout, "endpoint-manager"),
      "--cni-socket",
      cniSocketOf(layout),
      "--cni-deletions",
      cniDeletionsOf(layout),
      ...names.flatMap((path) => ["--names-socket", path]),
      ...optional("--names-min-ttl", config.namesMinTtl?.toString() ?? ""),
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
      ...(config.policyCidrMatch ?? []).flatMap((word) => ["--policy-cidr-match", word]),
      "--enable-policy",
      config.enablePolicy,
      ...(config.policyAuditMode ? ["--policy-audit-mode"] : []),
      ...optional("--zone", config.zone),
      ...(config.nodeLabel ?? []).flatMap((label) => ["--node-label", label]),
      ...(config.noHostFirewall ? ["--no-host-firewall"] : []),
      ...hostFailsafes(config, [
        config.authority ?? "",
        identityAllocator,
        policyEngine,
        readFrom.loadBalancer,
        kubernetesService,
      ]).flatMap((text) => ["--failsafe", text]),
      ...optional("--load-balancer", readFrom.loadBalancer),
      ...optional("--kubernetes", kubernetesService),
      ...(config.noL7Proxy ? [] : ["--l7-proxy", l7Proxies.join(","), ...proxyArgs(config, layout)]),
      "--ipam",
      config.ipam,
      ...optional("--node-ipv4", config.ipv4),
      ...optional("--node-ipv6", config.ipv6),
      ...optional("--mtu", config.mtu ? String(config.mtu) : ""),
      ...config.device.flatMap((device) => ["--devices", device]),
    ],
  }, [
    socket("datapath"),
    identityAllocator,
    policyEngine,
    ...present(readFrom.loadBalancer),
    ...present(kubernetesService),
    ...l7Proxies,
    `unix:${cniSocketOf(layout)}`,
    ...names.map((path) => `unix:${path}`),
  ]);
  const inCluster = clusterListenOf(), exports = exportAccess(config, layout);
  const records = config.noL7Proxy ? [] : [l7RecordsSocketOf(layout)];
  add({
    name: "flow-exporter",
    role: "node",
    entry: "services/flow-exporter/main.ts",
    privileged: false,
    moreSockets: [hubbleSocketOf(layout), ...records],
    permissions: ["--allow-env=WEIR_*", "--allow-sys=hostname", ...exports.permissions],
    secrets: exports.secrets,
    args: [
      "--node",
      nodeName,
      "--cluster",
      config.cluster,
      "--datapath",
      reading("datapath"),
      "--endpoint-manager",
      reading("endpoint-manager"),
      "--allocator",
      asReader(readFrom.identityAllocator),
      "--policy-engine",
      asReader(readFrom.policyEngine),
      ...optional("--load-balancer", asReader(readFrom.loadBalancer)),
      "--hubble-socket",
      hubbleSocketOf(layout),
      ...optional("--hubble-listen", config.hubbleListen),
      ...optional("--hubble-tls-directory", config.hubbleTlsDirectory),
      "--hubble-metrics",
      config.hubbleMetrics,
      ...optional("--hubble-metrics-listen", config.hubbleMetricsListen),
      ...records.flatMap((path) => ["--records-socket", path]),
      ...redactionArgs(config),
      ...exports.args,
      ...(inCluster === undefined ? [] : [
        "--cluster-listen",
        inCluster.listen,
        "--cluster-tls-directory",
        reader,
        "--authority",
        inCluster.authority,
      ]),
    ],
  }, [
    reading("datapath"),
    reading("endpoint-manager"),
    asReader(readFrom.identityAllocator),
    asReader(readFrom.policyEngine),
    ...present(asReader(readFrom.loadBalancer)),
    `unix:${hubbleSocketOf(layout)}`,
    ...records.map((path) => `unix:${path}`),
    ...exports.peers,
    ...present(listenTarget("hubble-listen", config.hubbleListen, HUBBLE_PORT, config.hubbleTlsDirectory)),
    ...present(
      listenTarget("hubble-metrics-listen", anyAddress(config.hubbleMetricsListen), METRICS_PORT, ""),
    ),
    ...(inCluster === undefined ? [] : [`https://${inCluster.listen}#${reader}`, inCluster.authority]),
  ]);
  if (config.controlPlane) {
    const ownNode = config.noNode ? [] : [`${nodeName}=${hubbleSocketOf(layout)}`];
    const nodes = [...ownNode, ...config.hubbleRelayNode ?? []];
    const { hubbleRelayListen: listen } = config;
    // A machine of a cluster has a certificate that shows flows: people's clients know it as observer.weir.internal.
    const directory = config.hubbleRelayTlsDirectory ||
      (config.listen !== "" && isBeyondLoopback(listen) ? reader : "");
    add({
      name: "relay",
      role: "control-plane",
      entry: "services/relay/main.ts",
      privileged: false,
      moreSockets: [relaySocketOf(layout)],
      permissions: ["--allow-env=WEIR_*", "--allow-sys=hostname"],
      args: [
        "--node",
        nodeName,
        "--allocator",
        readFrom.identityAllocator,
        ...nodes.flatMap((one) => ["--node-socket", one]),
        "--relay-socket",
        relaySocketOf(layout),
        ...(config.listen === "" ? [] : [
          "--cluster",
          config.cluster,
          "--node-tls-directory",
          reader,
          "--authority",
          reading("certificate-authority"),
        ]),
        ...optional("--relay-listen", listen),
        ...optional("--relay-tls-directory", directory),
      ],
    }, [
      readFrom.identityAllocator,
      ...nodes.map((one) => `unix:${one.slice(one.indexOf("=") + 1)}`),
      `unix:${relaySocketOf(layout)}`,
      // Nodes come and go: every address, of one port.
      ...(config.listen === "" ? [] : [
        reading("certificate-authority"),
        `https://0.0.0.0/0:${HUBBLE_PORT}#${reader}`,
        ...(config.listen.startsWith("[") ? [EVERY_ADDRESS] : []),
      ]),
      ...present(listenTarget("hubble-relay-listen", listen, RELAY_PORT, directory)),
    ]);
    const history = database("flow-history", "flow-history.db");
    if (!config.noFlowHistory) {
      add({
        name: "flow-history",
        role: "control-plane",
        entry: "services/flow-history/main.ts",
        privileged: false,
        hasState: true,
        hasReadSocket: true,
        permissions: ["--allow-env", "--allow-sys=hostname"],
        secrets: history.secrets,
        args: [
          "--relay",
          relaySocketOf(layout),
          "--allocator",
          readFrom.identityAllocator,
          "--policy-engine",
          readFrom.policyEngine,
          "--flows-per-s",
          `${config.flowHistoryPerS}`,
          "--age-h",
          `${config.flowHistoryAgeH}`,
          "--size-mib",
          `${config.flowHistorySizeMib}`,
          ...history.args,
        ],
      }, [
        `unix:${relaySocketOf(layout)}`,
        readFrom.identityAllocator,
        readFrom.policyEngine,
        ...(config.databaseUrl === "" ? [] : [databaseHost(config.databaseUrl)]),
      ]);
    }
    if (config.kubernetes) {
      // The authority's own socket is root's alone: it is asked as every machine of the control plane asks.
      const authority = config.listen === "" ? "" : `https://${config.listen}#${layout.state}`;
      const loadBalancer = socket("load-balancer");
      const { spec, peers } = kubernetesSpec(config, {
        identityAllocator,
        policyEngine,
        loadBalancer,
        authority,
        nodeName,
      });
      add(spec, peers);
    }
    if (!config.noUi) {
      const { spec, peers } = uiSpec(config, layout, { nodeName, ...readFrom });
      add(spec, peers);
    }
  }
  return config.noNode ? specs.filter(({ role }) => role !== "node") : specs;
}

/**
 * What V8 may set aside for new objects, MiB: a third of it is in use at a time (16, in all 48, by default). A burst of
 * work fills all of it, and a process that rests afterwards keeps it, as the endpoint manager after 1,000 endpoints. A
 * node's services have little at a time; those of the control plane have many clients and keep the default.
 */
const NODE_SEMI_SPACE_MIB = 8;

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
    ...(spec.role === "node" ? [`--v8-flags=--max-semi-space-size=${NODE_SEMI_SPACE_MIB}`] : []),
    ...(spec.privileged
      ? ["--config", configPath, "--unstable-ffi"]
      : ["--no-config", "--no-lock", "--no-remote"]),
    ...spec.permissions,
    ...(spec.privileged ? [] : [`--allow-read=${codeOf(modulePath)}`]),
    modulePath,
    ...spec.args,
  ];
  const drop = spec.privileged
    ? [`--bounding-set=-all,${DATAPATH_CAPABILITIES.map((name) => `+${name}`).join(",")}`]
    : [`--reuid=${layout.uid}`, `--regid=${layout.gid}`, "--clear-groups", "--bounding-set=-all"];
  const words = ["setpriv", ...drop, "--inh-caps=-all", "--no-new-privs", "--", ...deno];
  return spec.cgroup === undefined ? words : inCgroup(spec.cgroup, words);
}

/**
 * What a service may read and write: its own directory, its own sockets and those it speaks to, for Deno asks for both. The
 * machine's certificate it may read where it speaks to other machines.
 */
function files(layout: Layout, spec: { name: string; hasState?: boolean }, addresses: string[]): string[] {
  const paths = [
    ...(spec.hasState ? [stateOf(layout, spec.name)] : []),
    ...addresses.filter((address) => address.startsWith("unix:")).map((address) =>
      address.slice("unix:".length)
    ),
  ];
  const directories = new Set(
    addresses.map((address) => address.split("#")[1] ?? "").filter((one) => one !== ""),
  );
  const certificates = [...directories].flatMap((directory) => Object.values(credentialPaths(directory)));
  return [`--allow-read=${[...paths, ...certificates].join(",")}`, `--allow-write=${paths.join(",")}`];
}

/** Deno asks for the socket and for the host name in the URL that is fetched through it. */
function netPermission(addresses: string[]): string {
  if (addresses.includes(EVERY_ADDRESS)) return "--allow-net";
  const hosts = addresses.flatMap((address) =>
    address.startsWith("unix:") ? [address] : address.split("#")[0].split(",").map(hostOf)
  );
  return `--allow-net=${[...new Set([...hosts, "localhost:2"])].join(",")}`;
}

function hostOf(address: string): string {
  // All addresses of a prefix are no URL.
  const [, prefix] = /^https:\/\/([\d.]+\/\d+:\d+)$/.exec(address) ?? [];
  if (prefix !== undefined) return prefix;
  const url = new URL(address.includes("://") ? address : `http://${address}`);
  return `${url.hostname}:${url.port || (url.protocol === "https:" ? 443 : 80)}`;
}

function databaseHost(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  const directory = url.searchParams.get("host");
  if (directory?.startsWith("/")) return `unix:${directory}/.s.PGSQL.${url.port || 5432}`;
  return `${url.hostname}:${url.port || 5432}`;
}

/** Whether others than this machine reach it. */
function isBeyondLoopback(listen: string): boolean {
  const { hostname } = parseHostPort(listen, RELAY_PORT) ?? { hostname: "" };
  return hostname !== "" && !isLoopback(hostname.replace(/^\[|\]$/g, ""));
}

/** ":9965", every address of the machine, in full. */
const anyAddress = (listen: string) => /^:\d+$/.test(listen) ? `[::]${listen}` : listen;

/** This machine's address as the endpoint manager finds it, which tells the others. */
function foundAddress(): string {
  const interfaces = Deno.networkInterfaces();
  return nodeAddress(interfaces, 4) || nodeAddress(interfaces, 6);
}

/** An address as a prefix of its whole length. */
function hostPrefix(address: string): string {
  return Prefix.host(IpAddress.parse(address)).text;
}
