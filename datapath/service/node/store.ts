/**
 * The node itself: configuration record, own addresses, outer devices, the VXLAN device, kernel settings, and the routes to
 * other nodes' pods.
 *
 * @module
 */
import { type Prefix, ProblemError } from "@weir/common";
import {
  type Config,
  CONFIG_DIRECT,
  CONFIG_TUNNEL,
  IDENTITY_WORLD,
  IDENTITY_WORLD_V4,
  IDENTITY_WORLD_V6,
} from "@weir/maps";
import {
  addAddress,
  changeDevice,
  createVxlan,
  deleteDevice,
  deleteRoute,
  type Device,
  ensureSysctl,
  findDevice,
  listAddresses,
  listDevices,
  listRoutes,
  type NetlinkSocket,
  netnsCookie,
  putRoute,
  type Route,
  ROUTE_PROTOCOL,
  writeSysctl,
} from "@weir/net";
import type { NodeConfig, RemoteNode } from "@weir/proto/datapath";
import { hex, ipv4Number, mapped, parseAddress, parsePrefix } from "../kernel/addresses.ts";
import type { Attachments } from "../hooks/attachments.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { LocalAddressStore } from "./local_addresses.ts";
import { FailsafeStore } from "./failsafe.ts";
import { HandlePrefixes } from "./handle_prefixes.ts";
import { MasqueradeStore, serviceFlags } from "./masquerade.ts";
import { VlanStore } from "./vlans.ts";
import { macOf, type PodNetworkConfig } from "../endpoints/pod_network.ts";

/** Name of the tunnel device. */
export const OVERLAY_DEVICE = "weir_vxlan";
/** Outer IPv4, UDP, VXLAN and inner Ethernet headers; 20 more over IPv6. */
const VXLAN_BYTES = 50, VXLAN_V6_BYTES = 70;
const TUNNEL_PORT_DEFAULT = 8472, MTU_DEFAULT = 1500, MTU_MIN = 1280;
/** Ports that a translated source gets: above the NodePorts. */
const NAT_PORT_MIN = 32768, NAT_PORT_MAX = 65535;
/** Who an endpoint is to itself when a service leads it back to itself. */
const LOOPBACK_V4 = "169.254.42.1", LOOPBACK_V6 = "fd00:5745:4952::1";
const TIMEOUTS = {
  timeoutTcp: 8000,
  timeoutSyn: 60,
  timeoutClosing: 10,
  timeoutOther: 60,
  timeoutUnanswered: 30,
  reportInterval: 5,
};
const HZ_KNOWN = [100, 250, 300, 1000];

/** The node of this datapath: its configuration, devices and prefixes in the kernel. */
export class NodeStore {
  #config: NodeConfig | undefined;
  #outer: Device[] = [];
  #overlay: Device | undefined;
  readonly #remotes = new Map<string, RemoteNode>();
  readonly #masquerade: MasqueradeStore;
  readonly #local: LocalAddressStore;
  readonly #vlans: VlanStore;
  readonly #prefixes: HandlePrefixes;
  readonly failsafes: FailsafeStore;
  #changes = 0;
  readonly #parts: { kernel: Kernel; attachments: Attachments; socket: NetlinkSocket };

  /** @param parts proxyCgroup: see {@link HandlePrefixes} */
  constructor(
    parts: { kernel: Kernel; attachments: Attachments; socket: NetlinkSocket; proxyCgroup?: string },
  ) {
    this.#parts = parts;
    this.#masquerade = new MasqueradeStore(parts.kernel);
    this.#local = new LocalAddressStore(parts);
    this.#vlans = new VlanStore(parts.kernel);
    this.#prefixes = new HandlePrefixes(parts);
    this.failsafes = new FailsafeStore(parts.kernel);
  }

  get config(): NodeConfig | undefined {
    return this.#config;
  }
  /** Grows whenever the configuration or another node changes. */
  get changes(): number {
    return this.#changes;
  }
  /** Devices that lead out of the node. */
  get outer(): readonly Device[] {
    return this.#outer;
  }
  get remotes(): RemoteNode[] {
    return [...this.#remotes.values()];
  }

  /** Bytes of the largest packet of pods, and what the tunnel adds to it. */
  get pathSizes(): { podMtu: number; overhead: number } {
    const config = this.#config;
    return config === undefined
      ? { podMtu: MTU_MIN, overhead: 0 }
      : { podMtu: this.#podMtu(config), overhead: overheadOf(config) };
  }

  /** UDP port of the tunnel, 0 where packets are routed. */
  get tunnelPort(): number {
    return this.#overlay === undefined ? 0 : this.#config?.tunnelPort || TUNNEL_PORT_DEFAULT;
  }

  /** What pods get, undefined until the node is configured. */
  network(): PodNetworkConfig | undefined {
    const config = this.#config;
    if (config === undefined) return undefined;
    return { gatewayV4: config.gatewayV4, gatewayV6: config.gatewayV6, mtu: this.#podMtu(config) };
  }

  /** Makes the kernel follow the configuration. Repeatable. @param hz jiffies per second */
  apply(config: NodeConfig, hz: number): void {
    const { kernel, attachments, socket } = this.#parts;
    if (config.routingMode === "ROUTING_MODE_UNSPECIFIED") {
      throw new ProblemError("NODE_CONFIG_INVALID", {
        status: 422,
        detail: "Cannot configure the node: routing_mode is not given",
        expected: "TUNNEL or DIRECT",
      });
    }
    const outer = this.#findOuter(config);
    ensureSysctl("ipv4/ip_forward", "1");
    ensureSysctl("ipv6/conf/all/forwarding", "1");
    for (const device of outer) writeSysctl(`ipv6/conf/${device.name}/accept_ra`, "2"); // a forwarding host keeps its router
    for (const { ifindex } of this.#outer) {
      if (!outer.some((device) => device.ifindex === ifindex)) attachments.removeDevice(ifindex);
    }
    const tunnel = config.routingMode === "TUNNEL";
    this.#overlay = tunnel ? this.#ensureOverlay(config) : this.#removeOverlay();
    this.#outer = outer;
    const dualStack = config.podCidrV4 !== "" && config.podCidrV6 !== "";
    const record: Config = {
      flags: (tunnel ? CONFIG_TUNNEL : CONFIG_DIRECT) | serviceFlags(config),
      hz,
      tunnelIfindex: this.#overlay?.ifindex ?? 0,
      outerIfindex: outer[0]?.ifindex ?? 0,
      ipv4Be: ipv4Number(config.ipv4),
      gatewayIpv4Be: ipv4Number(config.gatewayV4),
      worldV4: dualStack ? IDENTITY_WORLD_V4 : IDENTITY_WORLD,
      worldV6: dualStack ? IDENTITY_WORLD_V6 : IDENTITY_WORLD,
      ipv6: mapped(config.ipv6),
      gatewayIpv6: mapped(config.gatewayV6),
      mtu: config.mtu || MTU_DEFAULT,
      tunnelPort: config.tunnelPort || TUNNEL_PORT_DEFAULT,
      aggregation: 3,
      ...TIMEOUTS,
      natPortMin: NAT_PORT_MIN,
      natPortMax: NAT_PORT_MAX,
      loopbackIpv4Be: ipv4Number(LOOPBACK_V4),
      loopbackIpv6: mapped(LOOPBACK_V6),
      netnsCookie: config.socketLb === false && config.proxy === undefined ? 0n : netnsCookie() ?? 0n,
      ...this.#prefixes.config,
    };
    this.#vlans.apply(config.vlanAllow, outer);
    this.failsafes.apply(config, tunnel ? record.tunnelPort : 0);
    // Exceptions first: nobody who is excepted is masqueraded meanwhile.
    this.#masquerade.apply(config.masquerade ? config.masqueradeExceptions : []);
    kernel.config.put(0, record);
    this.#config = config;
    this.#changes++;
    this.#giveGateways(config);
    this.refreshAddresses();
    for (const device of outer) {
      attachments.device("from_netdev", device.ifindex, device.name, "ingress");
      attachments.device("to_netdev", device.ifindex, device.name, "egress");
    }
    if (this.#overlay !== undefined) {
      const { ifindex, name } = this.#overlay;
      attachments.device("from_overlay", ifindex, name, "ingress");
      attachments.device("to_overlay", ifindex, name, "egress");
      changeDevice(socket, ifindex, { up: true });
      ensureSysctl(`ipv4/conf/${name}/rp_filter`, "0");
    }
    for (const remote of this.#remotes.values()) this.putRemote(remote);
  }

  /** Gives the proxy's handles their addresses, or takes them away. After {@link apply}; repeatable. @throws {ProblemError} */
  applyProxy(config: NodeConfig): void {
    this.#prefixes.apply(config, this.remotes);
  }

  /** Tells the programs which addresses are this node's. Called whenever netlink says that they changed, and now and then. */
  refreshAddresses(): void {
    const config = this.#config;
    if (config === undefined) return;
    this.#local.refresh([config.ipv4, config.ipv6, config.gatewayV4, config.gatewayV6]);
    this.#masquerade.refresh(config, this.#outer, listAddresses(this.#parts.socket));
  }

  /** True when other devices carry the node's addresses than those that it is configured for: one came back as another. */
  hasOtherOuter(): boolean {
    const config = this.#config;
    if (config === undefined) return false;
    const now = this.#foundOuter(config);
    // While there are none, those of before stay: they may come back.
    return now.length > 0 && deviceKeys(now) !== deviceKeys(this.#outer);
  }

  /** Puts back what others took away: addresses of gateways, and routes, which go with the address that is their source. */
  repair(): void {
    const config = this.#config;
    if (config === undefined) return;
    this.#giveGateways(config);
    // A route whose source address is away is refused; its return is told.
    if (this.#foundOuter(config).length === 0) return;
    const there = new Set(listRoutes(this.#parts.socket, ROUTE_PROTOCOL).map(routeKey));
    for (const remote of this.#remotes.values()) {
      for (const route of this.#routesOf(remote)) {
        if (!there.has(routeKey(route))) putRoute(this.#parts.socket, route);
      }
    }
  }

  /** Routes to another node's pods. Repeatable. */
  putRemote(remote: RemoteNode): void {
    const before = this.#remotes.get(remote.name);
    const wanted = this.#config === undefined ? [] : this.#routesOf(remote);
    if (before !== undefined && this.#config !== undefined) {
      const keep = new Set(wanted.map(routeKey));
      for (const route of this.#routesOf(before)) {
        if (!keep.has(routeKey(route))) deleteRoute(this.#parts.socket, route);
      }
    }
    this.#remotes.set(remote.name, remote);
    this.#changes++;
    for (const route of wanted) putRoute(this.#parts.socket, route);
  }

  /** Removes the routes to a node; false when it is not known. */
  deleteRemote(name: string): boolean {
    const remote = this.#remotes.get(name);
    if (remote === undefined) return false;
    this.#remotes.delete(name);
    this.#changes++;
    if (this.#config !== undefined) {
      for (const route of this.#routesOf(remote)) deleteRoute(this.#parts.socket, route);
    }
    return true;
  }

  /** Own routes that lead to no known node and no known endpoint. */
  leftoverRoutes(endpointAddresses: ReadonlySet<string>): Route[] {
    const wanted = new Set(
      this.remotes.flatMap((remote) => this.#config ? this.#routesOf(remote) : []).map(routeKey),
    );
    return listRoutes(this.#parts.socket, ROUTE_PROTOCOL).filter((route) => {
      const bits = route.destination.length * 8;
      const text = route.destination.length === 4
        ? mapped([...route.destination].join("."))
        : route.destination as Uint8Array<ArrayBuffer>;
      const toEndpoint = route.prefixLength === bits && endpointAddresses.has(hex(text));
      return !toEndpoint && !wanted.has(routeKey(route));
    });
  }

  #routesOf(remote: RemoteNode): Route[] {
    const config = this.#config!;
    const routes: Route[] = [];
    for (
      const [cidr, gateway, source] of [
        [remote.podCidrV4, remote.ipv4, config.ipv4],
        [remote.podCidrV6, remote.ipv6, config.ipv6],
        ...remote.poolCidrs.map((cidr) =>
          cidr.includes(":") ? [cidr, remote.ipv6, config.ipv6] : [cidr, remote.ipv4, config.ipv4]
        ),
      ]
    ) {
      if (cidr === "") continue;
      const prefix: Prefix = parsePrefix(cidr);
      const destination = { destination: prefix.address.bytes, prefixLength: prefix.length };
      const sourced = source === "" ? {} : { source: parseAddress(source).bytes };
      if (this.#overlay !== undefined) {
        routes.push({
          ...destination,
          ...sourced,
          ifindex: this.#overlay.ifindex,
          mtu: this.#podMtu(config),
        });
      } else if (gateway !== "" && this.#outer.length > 0) {
        routes.push({
          ...destination,
          ...sourced,
          ifindex: this.#outer[0].ifindex,
          gateway: parseAddress(gateway).bytes,
        });
      }
    }
    return routes;
  }

  #podMtu(config: NodeConfig): number {
    const outer = config.mtu || MTU_DEFAULT;
    return Math.max(MTU_MIN, outer - overheadOf(config));
  }

  /** {@link #findOuter} where one that is named may be away. */
  #foundOuter(config: NodeConfig): Device[] {
    try {
      return this.#findOuter(config);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      return [];
    }
  }

  /** The devices named, else those that carry the node's addresses. */
  #findOuter(config: NodeConfig): Device[] {
    const { socket } = this.#parts;
    if (config.devices.length > 0) {
      return config.devices.map((name) => {
        const device = findDevice(socket, name);
        if (device !== undefined) return device;
        throw new ProblemError("DEVICE_NOT_FOUND", {
          status: 404,
          detail: `Cannot configure the node: device ${name} does not exist`,
          found: "nothing",
          expected: name,
        });
      });
    }
    const wanted = [config.ipv4, config.ipv6].filter((text) => text !== "").map((text) =>
      hex(parseAddress(text).bytes)
    );
    const indexes = new Set(
      listAddresses(socket).filter((address) => wanted.includes(hex(address.bytes))).map((address) =>
        address.ifindex
      ),
    );
    return listDevices(socket).filter((device) => indexes.has(device.ifindex) && !device.loopback);
  }

  #ensureOverlay(config: NodeConfig): Device {
    const { socket, kernel } = this.#parts;
    const alias = kernel.pins.alias("overlay");
    const found = findDevice(socket, OVERLAY_DEVICE);
    if (found !== undefined && found.alias === alias) {
      if (found.mtu !== this.#podMtu(config)) {
        changeDevice(socket, found.ifindex, { mtu: this.#podMtu(config) });
      }
      return found;
    }
    createVxlan(socket, {
      name: OVERLAY_DEVICE,
      port: config.tunnelPort || TUNNEL_PORT_DEFAULT,
      mtu: this.#podMtu(config),
      // Another one on every node: a VXLAN device takes a frame from its own address for a loop.
      mac: macOf(`${alias} ${config.nodeName} ${config.ipv4} ${config.ipv6}`),
    });
    const device = findDevice(socket, OVERLAY_DEVICE)!;
    changeDevice(socket, device.ifindex, { alias, noarp: true, noLinkLocal: true });
    return device;
  }

  #removeOverlay(): undefined {
    const { socket, kernel, attachments } = this.#parts;
    const found = findDevice(socket, OVERLAY_DEVICE);
    if (found?.alias !== kernel.pins.alias("overlay")) return;
    attachments.removeDevice(found.ifindex);
    deleteDevice(socket, found.ifindex);
  }

  /** The gateways' addresses are the host's too, so that pods can reach the host by them. */
  #giveGateways(config: NodeConfig): void {
    const { socket } = this.#parts;
    const loopback = findDevice(socket, "lo");
    if (loopback === undefined) return;
    // The kernel tells of an address that is added again too, and who follows its words would never come to rest.
    const there = new Set(listAddresses(socket, loopback.ifindex).map(({ bytes }) => bytes.join()));
    for (const text of [config.gatewayV4, config.gatewayV6]) {
      const address = text === "" ? undefined : parseAddress(text).bytes;
      if (address === undefined || there.has(address.join())) continue;
      addAddress(socket, loopback.ifindex, address, address.length * 8);
    }
  }
}

/** Jiffies per second out of two samples some 100 ms apart, rounded to what kernels are built with. */
export function hzOf(
  before: { jiffies: bigint; time: bigint },
  after: { jiffies: bigint; time: bigint },
): number {
  const measured = Number(after.jiffies - before.jiffies) / (Number(after.time - before.time) / 1e9);
  return HZ_KNOWN.reduce((best, hz) => Math.abs(hz - measured) < Math.abs(best - measured) ? hz : best);
}

function overheadOf({ routingMode, ipv4 }: NodeConfig): number {
  return routingMode !== "TUNNEL" ? 0 : ipv4 === "" ? VXLAN_V6_BYTES : VXLAN_BYTES;
}

function deviceKeys(devices: readonly Device[]): string {
  return devices.map(({ ifindex }) => ifindex).sort().join();
}

function routeKey(route: Route): string {
  return `${hex(route.destination)}/${route.prefixLength} ${route.ifindex} ${
    route.gateway ? hex(route.gateway) : ""
  }`;
}
