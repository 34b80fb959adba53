/** The endpoint manager as a process. @module */
import { WeirClient } from "@weir/client";
import { invalidArgument, nodeAddress, Prefix, runService } from "@weir/common";
import { EndpointSockets } from "@weir/proto/datapath";
import { EndpointManager } from "./endpoint_manager.ts";
import { EndpointFiles } from "./endpoint_store.ts";
import { NodeFile } from "./node_file.ts";
import { PolicySetFile } from "./policy_set_file.ts";
import { httpDatapath, httpDirectory, httpPolicySource, httpServiceSource } from "./http_sources.ts";
import { BULK_DEADLINE_MS } from "./peer.ts";
import { mountEndpointManager } from "./server.ts";

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
    datapath: {
      kind: "text",
      default: "/run/weir/host/datapath.sock",
      description: "this node's datapath",
    },
  },
  async create({ config, api, log, health, signal, clock }) {
    if (config.routing !== "tunnel" && config.routing !== "direct") {
      throw invalidArgument(`Cannot route by ${config.routing}`, {
        found: config.routing,
        expected: "tunnel or direct",
      });
    }
    const nodeName = config.node ?? Deno.hostname();
    const interfaces = config.nodeIpv4 === undefined || config.nodeIpv6 === undefined
      ? Deno.networkInterfaces()
      : [];
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
      },
      directory: httpDirectory(clients["identity-allocator"], nodeName, log),
      policy: httpPolicySource(clients["policy-engine"], nodeName, log),
      datapath: httpDatapath(clients.datapath, log),
      services: clients["load-balancer"] && httpServiceSource(clients["load-balancer"], log),
      store: new EndpointFiles(`${config.state}/endpoints`),
      nodeStore: new NodeFile(`${config.state}/node.json`),
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
    return {
      async stop() {
        await looking;
        await manager.stop();
      },
    };
  },
});
