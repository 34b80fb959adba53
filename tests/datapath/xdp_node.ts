/** A node whose outer device is in a namespace with neighbours that are known, for runs of xdp_netdev. @module */
import * as abi from "@weir/maps";
import { Netns } from "@weir/net";
import { must } from "./cluster.ts";
import { type Run, TestNode } from "./node.ts";
import { type Bytes, packet, type PacketSpec, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

export const XDP_PASS = 2, XDP_TX = 3, XDP_REDIRECT = 4;
export const OWN_MAC = "02:00:00:00:07:01", PEER_MAC = "02:00:00:00:07:02", CLIENT_MAC = "02:00:00:00:07:03";
export const FAMILIES = [
  {
    name: "IPv4",
    node: "192.0.2.1",
    client: "198.51.100.7",
    far: "10.0.2.10",
    here: "10.0.1.10",
    any: "0.0.0.0",
  },
  {
    name: "IPv6",
    node: "2001:db8::1",
    client: "2001:db8:9::7",
    far: "fd00:2::10",
    here: "fd00:1::10",
    any: "::",
  },
];
export const TCP_UDP = [6, UDP];
/** Ports of frontends: SNAT, DSR, a backend here, nobody, only for 203.0.113.0/24, one without a neighbour. */
export const SNAT = 30080, DSR = 30081, LOCAL = 30082, NOBODY = 30083, RANGES = 30084, LOST = 30085;

/** A node whose outer device is in a namespace with neighbours that are known, for runs of xdp_netdev. */
export class XdpNode {
  private constructor(
    readonly node: TestNode,
    readonly name: string,
    readonly netns: Netns,
    readonly ifindex: number,
  ) {}

  static async open(): Promise<XdpNode> {
    const name = `wt-xdp-${Deno.pid}`;
    await must("ip", "netns", "add", name);
    const node = await TestNode.open();
    try {
      const ip = (...args: string[]) => must("ip", "-n", name, ...args);
      const sysctl = [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv6.conf.default.accept_dad=0",
      ];
      await must("ip", "netns", "exec", name, "sysctl", "-qw", ...sysctl);
      await ip("link", "add", "outer", "address", OWN_MAC, "type", "veth", "peer", "name", "far");
      await ip("address", "add", "192.0.2.1/24", "dev", "outer");
      await ip("address", "add", "2001:db8::1/64", "dev", "outer", "nodad");
      await ip("link", "set", "far", "up");
      await ip("link", "set", "outer", "up");
      for (
        const [peer, client, pods] of [
          ["192.0.2.2", "192.0.2.100", "10.0.2.0/24"],
          ["2001:db8::2", "2001:db8::100", "fd00:2::/64"],
        ]
      ) {
        await ip("neigh", "add", peer, "lladdr", PEER_MAC, "dev", "outer", "nud", "permanent");
        await ip("neigh", "add", client, "lladdr", CLIENT_MAC, "dev", "outer", "nud", "permanent");
        await ip("route", "add", pods, "via", peer);
        await ip("route", "add", "default", "via", client);
      }
      const file = await must("ip", "netns", "exec", name, "cat", "/sys/class/net/outer/ifindex");
      const made = new XdpNode(node, name, Netns.open(`/run/netns/${name}`), Number(file.trim()));
      node.writeConfig({ flags: abi.CONFIG_DIRECT, outerIfindex: made.ifindex });
      node.addEndpoint({
        id: 1,
        identity: 1000,
        ipv4: "10.0.1.10",
        ipv6: "fd00:1::10",
        ifindex: made.ifindex + 100,
      });
      made.#services();
      return made;
    } catch (error) {
      node[Symbol.dispose]();
      await must("ip", "netns", "del", name);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.netns[Symbol.dispose]();
    this.node[Symbol.dispose]();
    await must("ip", "netns", "del", this.name);
  }

  /** A frame from the client's side through xdp_netdev. */
  xdp(data: Bytes): Run {
    this.node.drainEvents();
    const ctx = new Uint8Array(24); // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    const view = new DataView(ctx.buffer);
    view.setUint32(4, data.length, true);
    view.setUint32(12, this.ifindex, true);
    const result = this.netns.enter(() => this.node.program("xdp_netdev").testRun({ data, ctx }));
    return { verdict: result.retval, data: result.data.slice(), mark: 0, events: this.node.drainEvents() };
  }

  /** The same through from_netdev. */
  tc(data: Bytes): Run {
    return this.netns.enter(() => this.node.run("from_netdev", data, this.ifindex));
  }

  #services(): void {
    const { node } = this;
    let id = 0;
    for (const family of FAMILIES) {
      for (const protocol of TCP_UDP) {
        const lost = family.name === "IPv4" ? "192.0.2.77" : "2001:db8::77";
        const [far, here, away] = [family.far, family.here, lost].map((address) => {
          setBackend(node, { id: ++id, address, port: 8080, protocol });
          setSelection(node, id, [id]);
          return id;
        });
        const flags = abi.FRONTEND_EXTERNAL | abi.FRONTEND_NODE_PORT;
        const put = (port: number, external: number, more = 0) =>
          setFrontend(node, {
            address: family.any,
            port,
            protocol,
            service: port % 100,
            external,
            flags: flags | more,
          });
        put(SNAT, far);
        put(DSR, far, abi.FRONTEND_DSR);
        put(LOCAL, here);
        put(NOBODY, 0);
        put(RANGES, far, abi.FRONTEND_SOURCE_RANGES);
        put(LOST, away);
      }
    }
  }
}

/** A frame of the client. */
export function fromClient(spec: PacketSpec): Bytes {
  return packet({ macTo: OWN_MAC, macFrom: CLIENT_MAC, sport: 40000, ...spec });
}
