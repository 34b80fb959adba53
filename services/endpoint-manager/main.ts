/** The endpoint manager as a process. @module */
import { WeirClient } from "@weir/client";
import {
  ApiServer,
  invalidArgument,
  type Listener,
  listenUnix,
  nodeAddress,
  Prefix,
  readCidrMatch,
  readEnforcement,
  runService,
} from "@weir/common";
import { EndpointSockets } from "@weir/proto/datapath";
import { CniService } from "./cni/cni_service.ts";
import { mountCni } from "./cni/routes.ts";
import { EndpointManager, NAMES_MIN_TTL_MS } from "./endpoint_manager.ts";
import { listenEverywhere } from "./health_check/health_check_server.ts";
import { EndpointFiles } from "./endpoint_store.ts";
import { readFailsafe, readNodeLabel } from "./host_options.ts";
import { NameFile } from "./names/name_file.ts";
import { mountLearning } from "./names/routes.ts";
import { NodeFile } from "./node_file.ts";
import { PolicySetFile } from "./policy_set_file.ts";
import {
  httpDatapath,
  httpDirectory,
  httpKubernetes,
  httpL7Proxy,
  httpPolicySource,
  httpServiceSource,
} from "./http_sources.ts";
import { joinL7Proxies } from "./joined_l7_proxies.ts";
import { BULK_DEADLINE_MS } from "./peer.ts";
import { mountEndpointManager } from "./server.ts";

/** Of the socket of CNI: the agent makes it root's, and nobody else may ask there. */
const CNI_SOCKET_MODE = 0o600;
/** How often readiness is looked at, milliseconds. */
const LOOK_MS = 100;
/** Longest wait for the datapath when somebody asks for sockets, milliseconds. */
const SOCKETS_DEADLINE_MS = 3000;
/** Looks that fail to come for so long mean that this process hangs, milliseconds. */
const STUCK_MS = 20_000;

/** What readiness says of services. Those that fail do not take the node out of service: the others work. */
function servicesText({ services, followsServices }: EndpointManager): string {
  if (!followsServices) return "no load balancer is given: this node serves no services";
  const failures = services.failures;
  return failures === 0 ? "ok" : `${failures} services cannot be realized: see GET /v1/services`;
}

runService({
  name: "endpoint-manager",
  config: {
    node: { kind: "text", description: "name of this node, default the host's name" },
    instance: { kind: "text", default: "host", description: "owner mark of everything in the kernel" },
    cluster: { kind: "text", default: "default", description: "name of the cluster" },
    nodeIpv4: { kind: "text", description: "this node's IPv4 address, default the first that is found" },
    nodeIpv6: { kind: "text", description: "this node's IPv6 address, default the first that is found" },
    routing: { kind: "text", default: "tunnel", description: "tunnel (VXLAN) or direct" },
    mtu: { kind: "number", default: 1500, min: 1280, max: 65535, description: "MTU of the outer device" },
    devices: { kind: "list", description: "outer devices, default the one with the node's address" },
    tunnelPort: {
      kind: "number",
      default: 8472,
      min: 1,
      max: 65535,
      description: "UDP port of the tunnel",
    },
    masquerade: {
      kind: "flag",
      description: "pod traffic that leaves the cluster takes the node's address",
    },
    masqueradeExceptions: {
      kind: "list",
      description: "prefixes outside the cluster that see the pods' own addresses",
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
      description: "VLANs whose tagged frames pass the outer devices, unjudged (default: none)",
    },
    policyCidrMatch: {
      kind: "list",
      description: "whom CIDR rules mean beside addresses outside of the cluster: pods (default: nobody)",
    },
    enablePolicy: {
      kind: "text",
      default: "default",
      description:
        "when policies are enforced on endpoints that do not say it themselves: default, always, never",
    },
    nodeLabel: { kind: "list", description: "KEY=VALUE by which policies select this node" },
    noHostFirewall: { kind: "flag", description: "policies for nodes do nothing on this one" },
    failsafe: {
      kind: "list",
      description: "KIND/DIRECTION/PROTOCOL/PORT/WHO that no policy for this node cuts off; may be repeated",
    },
    policyAuditMode: {
      kind: "flag",
      description: "what policies deny passes, and is reported, on endpoints that do not say otherwise",
    },
    zone: {
      kind: "text",
      default: "",
      description: "zone of this node (default: its label topology.kubernetes.io/zone)",
    },
    state: {
      kind: "text",
      default: "/var/lib/weir/host",
      description: "directory for what must outlive a restart",
    },
    allocator: {
      kind: "text",
      default: "/run/weir/host/identity-allocator.sock",
      description: "identity allocator",
    },
    policyEngine: {
      kind: "text",
      default: "/run/weir/host/policy-engine.sock",
      description: "policy engine",
    },
    loadBalancer: {
      kind: "text",
      default: "",
      description: "load balancer; without one this node serves no services",
    },
    kubernetes: {
      kind: "text",
      default: "",
      description:
        "the service kubernetes, which describes pods; without one a container is what its runtime says",
    },
    ipam: {
      kind: "text",
      default: "cluster-pool",
      description:
        "who gives this node's pod CIDRs: cluster-pool (the identity allocator), kubernetes (Node.spec.podCIDRs)",
    },
    datapath: {
      kind: "text",
      default: "/run/weir/host/datapath.sock",
      description: "this node's datapath",
    },
    l7Proxy: {
      kind: "text",
      default: "",
      description:
        "processes of this node's L7 proxy, with commas; without one policies with L7 rules cannot be put in force",
    },
    proxyPort: {
      kind: "number",
      default: 15_001,
      min: 1,
      max: 65_535,
      description: "with l7Proxy: the port at which it takes connections",
    },
    proxyUid: {
      kind: "number",
      default: 0,
      min: 0,
      max: 2 ** 32 - 1,
      description: "with l7Proxy: its user's number",
    },
    proxyPrefixV4: { kind: "text", default: "", description: "with l7Proxy: IPv4 addresses of handles" },
    proxyPrefixV6: { kind: "text", default: "", description: "with l7Proxy: IPv6 addresses of handles" },
    namesSocket: {
      kind: "text",
      default: "",
      description: "unix socket at which the L7 proxy tells what endpoints have heard of names; empty: none",
    },
    namesMinTtl: {
      kind: "number",
      default: NAMES_MIN_TTL_MS / 1000,
      min: 1,
      max: 86_400,
      description: "an answer to a query for a name counts for so many seconds at least",
    },
    cniSocket: {
      kind: "text",
      default: "",
      description: "unix socket for weir-cni, root's alone; empty: none",
    },
    cniDeletions: {
      kind: "text",
      default: "",
      description: "directory in which weir-cni leaves deletions while nobody answers",
    },
  },
  async create({ config, api, log, metrics, health, signal, clock }) {
    if (config.routing !== "tunnel" && config.routing !== "direct") {
      throw invalidArgument(`Cannot route by ${config.routing}`, {
        found: config.routing,
        expected: "tunnel or direct",
      });
    }
    const { ipam } = config;
    if (ipam !== "cluster-pool" && (ipam !== "kubernetes" || config.kubernetes === "")) {
      throw invalidArgument(
        `Cannot take --ipam ${ipam}${config.kubernetes === "" ? " without --kubernetes" : ""}`,
        {
          found: ipam,
          expected: "cluster-pool or, with --kubernetes, kubernetes",
        },
      );
    }
    const nodeName = config.node ?? Deno.hostname();
    const interfaces = config.nodeIpv4 === undefined || config.nodeIpv6 === undefined
      ? Deno.networkInterfaces()
      : [];
    const proxies = config.l7Proxy.split(",").filter((address) => address !== "")
      .map((address) => new WeirClient(address));
    const clients = {
      "identity-allocator": new WeirClient(config.allocator, { joint: true }),
      "policy-engine": new WeirClient(config.policyEngine, {
        joint: true,
        headers: (): Record<string, string> => manager.evidence(),
      }),
      "datapath": new WeirClient(config.datapath, { deadlineMs: BULK_DEADLINE_MS }),
      "load-balancer": config.loadBalancer === ""
        ? undefined
        : new WeirClient(config.loadBalancer, { joint: true }),
      "kubernetes": config.kubernetes === "" ? undefined : new WeirClient(config.kubernetes),
      "l7-proxy": proxies[0],
    };
    const manager: EndpointManager = new EndpointManager({
      config: {
        nodeName,
        instance: config.instance,
        cluster: config.cluster,
        nodeIpv4: config.nodeIpv4 ?? nodeAddress(interfaces, 4),
        nodeIpv6: config.nodeIpv6 ?? nodeAddress(interfaces, 6),
        routingMode: config.routing === "direct" ? "DIRECT" : "TUNNEL",
        mtu: config.mtu,
        devices: config.devices ?? [],
        tunnelPort: config.tunnelPort,
        masquerade: config.masquerade,
        masqueradeExceptions: config.masqueradeExceptions?.map((text) => Prefix.parse(text).text) ?? [],
        xdp: config.xdp,
        noBackendDrop: config.noBackendDrop,
        socketLb: !config.noSocketLb,
        vlanAllow: config.vlanAllow?.map(Number) ?? [],
        zone: config.zone,
        nodeLabels: (config.nodeLabel ?? []).map(readNodeLabel),
        hostEndpoint: !config.noHostFirewall,
        failsafes: (config.failsafe ?? []).map(readFailsafe),
        ipam,
        namesMinTtlMs: config.namesMinTtl * 1000,
        cidrMeansPods: readCidrMatch(config.policyCidrMatch ?? []).pods,
        enforcement: readEnforcement(config.enablePolicy),
        audit: config.policyAuditMode,
        proxy: config.l7Proxy === "" ? undefined : {
          port: config.proxyPort,
          uid: config.proxyUid,
          sockets: proxies.length,
          prefixV4: config.proxyPrefixV4,
          prefixV6: config.proxyPrefixV6,
        },
      },
      directory: httpDirectory(clients["identity-allocator"], nodeName, log),
      policy: httpPolicySource(clients["policy-engine"], nodeName, log),
      datapath: httpDatapath(clients.datapath, log),
      services: clients["load-balancer"] && httpServiceSource(clients["load-balancer"], log),
      kubernetes: clients.kubernetes && httpKubernetes(clients.kubernetes, nodeName, log),
      proxy: proxies.length === 0 ? undefined : joinL7Proxies(proxies.map((one) => httpL7Proxy(one, log))),
      healthCheckListen: listenEverywhere,
      store: new EndpointFiles(`${config.state}/endpoints`),
      nodeStore: new NodeFile(`${config.state}/node.json`),
      nameStore: new NameFile(`${config.state}/names.jsonl`),
      policySetStore: new PolicySetFile(`${config.state}/policy-set.json`),
      addresses: Object.fromEntries(
        Object.entries(clients).map(([name, client]) => [name, client?.address]),
      ),
      clock,
      log: (message, fields) => log.warn(message, fields),
    });
    const sockets = clients.datapath.collection("sockets", EndpointSockets);
    mountEndpointManager(api, manager, (name) => sockets.get(name, { deadlineMs: SOCKETS_DEADLINE_MS }));
    const look = () => {
      const waits = manager.waitingFor();
      if (waits.length === 0) health.ok("sources", "in sync");
      else health.waitFor("sources", `waits for ${waits.join(", ")}`);
      health.ok("services", servicesText(manager));
    };
    look();
    const looking = (async () => {
      while (!signal.aborted) {
        await clock.sleep(LOOK_MS, signal);
        look();
        health.alive("endpoint manager", STUCK_MS);
      }
    })();
    await manager.start();
    let cniListener: Listener | undefined, namesListener: Listener | undefined;
    if (config.namesSocket !== "") {
      const namesApi = new ApiServer({ name: "names", health, metrics, log, clock });
      mountLearning(namesApi, manager.names);
      // As every socket the agent makes it root's: the L7 proxy may ask by its group.
      namesListener = await listenUnix(namesApi.fetch, config.namesSocket);
    }
    if (config.cniSocket !== "") {
      const cni = new CniService({
        node: manager,
        pods: manager.pods,
        clock,
        deletions: config.cniDeletions,
        log: (message, fields) => log.info(message, fields),
      });
      const cniApi = new ApiServer({ name: "cni", health, metrics, log, clock });
      mountCni(cniApi, cni);
      void cni.run(signal);
      cniListener = await listenUnix(cniApi.fetch, config.cniSocket, { mode: CNI_SOCKET_MODE });
    }
    return {
      async stop() {
        await Promise.all([cniListener?.shutdown(300), namesListener?.shutdown(300)]);
        await looking;
        await manager.stop();
      },
    };
  },
});
