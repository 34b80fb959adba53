/** The endpoint manager as a process. @module */
import { WeirClient } from "@weir/client";
import { invalidArgument, Prefix, runService } from "@weir/common";
import { EndpointManager } from "./endpoint_manager.ts";
import { EndpointStore } from "./endpoint_store.ts";
import { nodeAddress } from "./node_address.ts";
import { allocatorPeer, datapathPeer, loadBalancerPeer, policyPeer } from "./peers.ts";
import { mountEndpointManager } from "./server.ts";

/** What readiness says of services. Those that fail do not take the node out of service: the others work. */
function servicesText({ services, followsServices }: EndpointManager): string {
  if (!followsServices) return "no load balancer is given: this node serves no services";
  const failures = services?.failures ?? 0;
  return failures === 0 ? "ok" : `${failures} services cannot be realized: see GET /v1/services`;
}

if (import.meta.main) {
  await runService({
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
    async create({ config, api, log, health, signal }) {
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
      const manager = new EndpointManager({
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
        allocator: allocatorPeer(new WeirClient(config.allocator), nodeName, log),
        policy: policyPeer(new WeirClient(config.policyEngine), log),
        datapath: datapathPeer(new WeirClient(config.datapath), log),
        loadBalancer: config.loadBalancer === ""
          ? undefined
          : loadBalancerPeer(new WeirClient(config.loadBalancer), log),
        store: new EndpointStore(`${config.state}/endpoints`),
        log: (message, fields) => log.warn(message, fields),
      });
      mountEndpointManager(api, manager);
      const look = () => {
        const waits = manager.waitingFor();
        if (waits.length === 0) health.ok("sources", "in sync");
        else health.waitFor("sources", `waits for ${waits.join(", ")}`);
        health.ok("services", servicesText(manager));
      };
      look();
      const timer = setInterval(look, 100);
      signal.addEventListener("abort", () => clearInterval(timer));
      await manager.start();
      return { stop: () => manager.stop() };
    },
  });
}
