/**
 * This node and its neighbours: registers the node with the allocator, keeps its address pools, and tells the datapath
 * what the node is and which other nodes there are.
 * @module
 */
import type { Node } from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import type { EndpointManagerConfig } from "./config.ts";
import { AddressPool } from "./ipam.ts";
import type { AllocatorPort, DatapathPort } from "./ports.ts";

const ZONE_LABEL = "topology.kubernetes.io/zone";

/** The zone that a node's labels name, whatever source they come from; `""` if none does. */
export function zoneOf(labels: readonly string[]): string {
  for (const label of labels) {
    const [key, zone = ""] = label.split("=");
    if (key.slice(key.indexOf(":") + 1) === ZONE_LABEL) return zone;
  }
  return "";
}

/** See the module comment. */
export class NodeReconciler {
  /** What the allocator gave this node; undefined until it answered once. */
  node: Node | undefined;
  poolV4: AddressPool | undefined;
  poolV6: AddressPool | undefined;
  private configApplied = "";
  private readonly remoteApplied = new Map<string, string>();

  constructor(
    private readonly config: EndpointManagerConfig,
    private readonly allocator: AllocatorPort,
    private readonly datapath: DatapathPort,
  ) {}

  /** True once the datapath knows what the node is. */
  get configured(): boolean {
    return this.configApplied !== "";
  }

  /** Router addresses that the endpoints use. */
  get gateways(): string[] {
    return [this.poolV4, this.poolV6].filter((p) => p !== undefined).map((p) => p.gateway.text);
  }

  /** The zone that this node is in, `""` if nobody said. */
  get zone(): string {
    return this.config.zone || zoneOf(this.node?.labels ?? []);
  }

  /** The datapath is there anew. */
  forget(): void {
    this.configApplied = "";
    this.remoteApplied.clear();
  }

  /** Registers, or says that the node is alive. */
  async register(): Promise<void> {
    const { nodeName, nodeIpv4, nodeIpv6, cluster, zone } = this.config;
    this.node = await this.allocator.putNode({
      name: nodeName,
      ipv4: nodeIpv4,
      ipv6: nodeIpv6,
      cluster,
      // None: the node keeps those that it has.
      labels: zone === "" ? [] : [`${ZONE_LABEL}=${zone}`],
      podCidrV4: this.node?.podCidrV4 ?? "",
      podCidrV6: this.node?.podCidrV6 ?? "",
    });
    const { podCidrV4, podCidrV6 } = this.node;
    if (podCidrV4 !== "") this.poolV4 ??= new AddressPool(podCidrV4);
    if (podCidrV6 !== "") this.poolV6 ??= new AddressPool(podCidrV6);
  }

  /** Tells the datapath what the node is; true when that was news to it. */
  async applyConfig(): Promise<boolean> {
    const { config, node } = this;
    if (!node) return false;
    const nodeConfig = {
      instance: config.instance,
      nodeName: config.nodeName,
      ipv4: config.nodeIpv4,
      ipv6: config.nodeIpv6,
      podCidrV4: node.podCidrV4,
      podCidrV6: node.podCidrV6,
      gatewayV4: this.poolV4?.gateway.text ?? "",
      gatewayV6: this.poolV6?.gateway.text ?? "",
      routingMode: config.routingMode,
      mtu: config.mtu,
      devices: config.devices,
      tunnelPort: config.tunnelPort,
      cluster: config.cluster,
      masquerade: config.masquerade,
      masqueradeExceptions: config.masqueradeExceptions,
      xdp: config.xdp,
      noBackendDrop: config.noBackendDrop,
      zone: this.zone,
      socketLb: config.socketLb,
      vlanAllow: config.vlanAllow,
    };
    const text = JSON.stringify(nodeConfig);
    if (text === this.configApplied) return false;
    await this.datapath.putNodeConfig(nodeConfig);
    this.configApplied = text;
    return true;
  }

  /** Tells the datapath of the other nodes: those that changed, then those that are gone. */
  async applyRemoteNodes(nodes: Iterable<Node>): Promise<void> {
    const wanted = new Map<string, Init<Node>>();
    for (const { name, ipv4, ipv6, podCidrV4, podCidrV6 } of nodes) {
      if (name !== this.config.nodeName) wanted.set(name, { name, ipv4, ipv6, podCidrV4, podCidrV6 });
    }
    for (const [name, node] of wanted) {
      const text = JSON.stringify(node);
      if (this.remoteApplied.get(name) === text) continue;
      await this.datapath.putRemoteNode(node);
      this.remoteApplied.set(name, text);
    }
    for (const name of [...this.remoteApplied.keys()]) {
      if (wanted.has(name)) continue;
      await this.datapath.deleteRemoteNode(name);
      this.remoteApplied.delete(name);
    }
  }
}
