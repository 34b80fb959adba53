/**
 * Two nodes in namespaces of their own with a pod each, and a third machine outside the cluster, on one switch:
 *
 *     pod1 ── node1 ─┐
 *     pod2 ── node2 ─┴─ outside (the switch is its bridge; "the world" is an address of its loopback)
 *
 * Node n: 192.0.2.n, 2001:db8::n; pods 10.0.n.0/24, fd00:n::/64, one pod .10 / ::10, identity 1000 + n. Outside: 192.0.2.100,
 * 2001:db8::100. The world: 198.51.100.7, 2001:db8:9::7.
 *
 * @module
 */
import { attachTcx, type BpfLink } from "@weir/loader";
import * as abi from "@weir/maps";
import { Netns } from "@weir/net";
import { TestNode } from "./node.ts";
import { address, ipv4Number } from "./packet.ts";

export const WORLD = ["198.51.100.7", "2001:db8:9::7"];
export const OUTSIDE = ["192.0.2.100", "2001:db8::100"];

export async function sh(...args: string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(args[0], {
    args: args.slice(1),
    stdout: "piped",
    stderr: "piped",
  }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}
export async function must(...args: string[]): Promise<string> {
  const { code, text } = await sh(...args);
  if (code !== 0) throw new Error(`${args.join(" ")}: ${text}`);
  return text;
}

/** pod3: a second one on node 1, once `addPod()` has made it. */
export type Place = "node1" | "node2" | "pod1" | "pod2" | "pod3" | "outside";

const data = (file: string) => new URL(`testdata/${file}`, import.meta.url).pathname;
let clusters = 0;

/**
 * Two nodes in namespaces of their own with a pod each, and a third machine outside the cluster, on one switch.
 * Everything goes with `close()`.
 */
export class Cluster {
  readonly nodes: TestNode[] = [];
  readonly #links: BpfLink[] = [];
  readonly #servers: Deno.ChildProcess[] = [];
  readonly #number = clusters++;
  readonly #entriesMax: Record<string, number>;

  private constructor(readonly mode: number, entriesMax: Record<string, number>) {
    this.#entriesMax = entriesMax;
  }

  /** `mode`: flags of the configuration. `entriesMax` sizes maps. */
  static async open(mode: number, entriesMax: Record<string, number> = {}): Promise<Cluster> {
    const cluster = new Cluster(mode, entriesMax);
    try {
      await cluster.#switch();
      for (const n of [1, 2]) cluster.nodes.push(await cluster.#node(n));
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  netns(place: Place): string {
    return `wt-ns-${Deno.pid}-${this.#number}-${place}`;
  }
  /** Runs a command there. */
  in(place: Place, ...args: string[]) {
    return sh("ip", "netns", "exec", this.netns(place), ...args);
  }
  async ip(place: Place, ...args: string[]): Promise<void> {
    await must("ip", "-n", this.netns(place), ...args);
  }

  /** A server that says whom it sees. */
  async serve(place: Place, port: number): Promise<void> {
    const server = new Deno.Command("ip", {
      args: ["netns", "exec", this.netns(place), "python3", data("peer_server.py"), `${port}`],
      stdout: "piped",
    }).spawn();
    this.#servers.push(server);
    const reader = server.stdout.getReader();
    await reader.read();
    reader.releaseLock();
  }

  /**
   * What the server behind an address saw: its client's address and port, and the bytes; or the error. Who expects an answer waits long
   * for it; `denied` says that none is expected.
   */
  async ask(
    place: Place,
    kind: "tcp" | "udp",
    host: string,
    port: number,
    options: { bytes?: number; source?: number; denied?: boolean } = {},
  ): Promise<{ ok: boolean; peer: string; port: number; bytes: number; text: string }> {
    const { code, text } = await this.in(
      place,
      "python3",
      data("peer_client.py"),
      options.denied ? "1" : "20",
      kind,
      host,
      `${port}`,
      `${options.bytes ?? 100}`,
      ...(options.source ? [`${options.source}`] : []),
    );
    const [peer, peerPort, bytes] = text.trim().split(" ");
    const drops = code === 0 ? "" : ` ${this.drops()}`;
    return { ok: code === 0, peer, port: Number(peerPort), bytes: Number(bytes), text: text + drops };
  }

  /** Node 1 gets a second way out, device "other": 192.0.3.1 and 2001:db8:3::1, the outside is .100 and ::100 there. */
  async addDevice(): Promise<number> {
    const [node] = this.nodes, host = this.netns("node1");
    await this.ip(
      "node1",
      "link",
      "add",
      "other",
      "type",
      "veth",
      "peer",
      "name",
      "lan2",
      "netns",
      this.netns("outside"),
    );
    await this.#sysctl("node1", "net.ipv6.conf.other.accept_dad=0", "net.ipv4.conf.other.rp_filter=0");
    for (const [place, device, end] of [["node1", "other", "1"], ["outside", "lan2", "100"]] as const) {
      await this.ip(place, "address", "add", `192.0.3.${end}/24`, "dev", device);
      await this.ip(place, "address", "add", `2001:db8:3::${end}/64`, "dev", device, "nodad");
      await this.ip(place, "link", "set", device, "up");
    }
    for (const own of ["192.0.3.1", "2001:db8:3::1"]) {
      node.setAddress(own, { endpoint: 0, flags: abi.ADDRESS_HOST });
    }
    const file = `/sys/class/net/other/ifindex`;
    const ifindex = Number((await must("ip", "netns", "exec", host, "cat", file)).trim());
    using netns = Netns.open(`/run/netns/${host}`);
    netns.enter(() => {
      this.#links.push(attachTcx(node.program("from_netdev").fd, ifindex, "ingress"));
      this.#links.push(attachTcx(node.program("to_netdev").fd, ifindex, "egress"));
    });
    return ifindex;
  }

  /** pod3 on node 1: 10.0.1.11, fd00:1::11, endpoint 2, identity 1003. */
  async addPod(): Promise<void> {
    const [node] = this.nodes, mac = "02:00:00:00:01:03", hostMac = "02:00:00:00:02:03";
    await must("ip", "netns", "add", this.netns("pod3"));
    const veth = ["address", hostMac, "type", "veth", "peer", "name", "eth0", "address", mac];
    await this.ip("node1", "link", "add", "pod3", ...veth, "netns", this.netns("pod3"));
    await this.ip("node1", "link", "set", "pod3", "up");
    await this.ip("node1", "route", "add", "10.0.1.11/32", "dev", "pod3");
    await this.ip("node1", "route", "add", "fd00:1::11/128", "dev", "pod3");
    await this.ip("pod3", "link", "set", "lo", "up");
    await this.ip("pod3", "link", "set", "eth0", "mtu", "1400", "up");
    await this.ip("pod3", "address", "add", "10.0.1.11/32", "dev", "eth0");
    await this.ip("pod3", "address", "add", "fd00:1::11/128", "dev", "eth0", "nodad");
    for (const gateway of ["10.0.1.1", "fd00:1::1"]) {
      await this.ip("pod3", "route", "add", gateway, "dev", "eth0");
      await this.ip("pod3", "route", "add", "default", "via", gateway);
    }
    const file = "/sys/class/net/pod3/ifindex";
    const ifindex = Number((await must("ip", "netns", "exec", this.netns("node1"), "cat", file)).trim());
    node.addEndpoint({
      id: 2,
      identity: 1003,
      ipv4: "10.0.1.11",
      ipv6: "fd00:1::11",
      mac,
      hostMac,
      ifindex,
      netnsId: await this.#netnsId("node1", "pod3"),
    });
    using netns = Netns.open(`/run/netns/${this.netns("node1")}`);
    netns.enter(() => {
      this.#links.push(attachTcx(node.program("from_endpoint").fd, ifindex, "ingress"));
      this.#links.push(attachTcx(node.program("to_endpoint").fd, ifindex, "egress"));
    });
  }

  /** Drops of both nodes since the last look, for messages. */
  drops(): string {
    return this.nodes.flatMap((node, i) =>
      node.drainEvents().filter((e) => e.type === abi.EVENT_DROP).map((e) =>
        `node ${i + 1} drops with ${e.subtype} at file ${e.file} line ${e.line}`
      )
    ).join("; ");
  }

  async close(): Promise<void> {
    for (const server of this.#servers) {
      server.kill("SIGKILL");
      await server.stdout.cancel();
      await server.status;
    }
    for (const link of this.#links) link.close();
    for (const node of this.nodes) node[Symbol.dispose]();
    for (const place of ["node1", "node2", "pod1", "pod2", "pod3", "outside"] as Place[]) {
      await sh("ip", "netns", "delete", this.netns(place));
    }
  }

  async #sysctl(place: Place, ...settings: string[]): Promise<void> {
    await must("ip", "netns", "exec", this.netns(place), "sysctl", "-qw", ...settings);
  }

  async #switch(): Promise<void> {
    await must("ip", "netns", "add", this.netns("outside"));
    await this.#sysctl(
      "outside",
      "net.ipv4.conf.all.rp_filter=0",
      "net.ipv4.conf.default.rp_filter=0",
      "net.ipv6.conf.default.accept_dad=0",
    );
    await this.ip("outside", "link", "set", "lo", "up");
    await this.ip("outside", "link", "add", "lan", "type", "bridge");
    await this.ip("outside", "address", "add", `${OUTSIDE[0]}/24`, "dev", "lan");
    await this.ip("outside", "address", "add", `${OUTSIDE[1]}/64`, "dev", "lan", "nodad");
    await this.ip("outside", "address", "add", `${WORLD[0]}/32`, "dev", "lo");
    await this.ip("outside", "address", "add", `${WORLD[1]}/128`, "dev", "lo", "nodad");
    await this.ip("outside", "link", "set", "lan", "up");
  }

  async #node(n: number): Promise<TestNode> {
    const host: Place = n === 1 ? "node1" : "node2", pod: Place = n === 1 ? "pod1" : "pod2";
    const other = 3 - n;
    const mac = `02:00:00:00:01:0${n}`, hostMac = `02:00:00:00:02:0${n}`;
    for (const place of [host, pod]) await must("ip", "netns", "add", this.netns(place));
    const veth = ["type", "veth", "peer", "name"];
    await this.ip(host, "link", "add", "outer", ...veth, `port${n}`, "netns", this.netns("outside"));
    await this.ip("outside", "link", "set", `port${n}`, "master", "lan", "up");
    await this.#sysctl(
      host,
      "net.ipv4.ip_forward=1",
      "net.ipv6.conf.all.forwarding=1",
      "net.ipv4.conf.all.rp_filter=0",
      "net.ipv4.conf.default.rp_filter=0",
      // Nobody waits for duplicates of addresses that nobody else has.
      "net.ipv6.conf.default.accept_dad=0",
      "net.ipv6.conf.outer.accept_dad=0",
    );
    await this.ip(host, "link", "set", "lo", "up");
    await this.ip(host, "address", "add", `10.0.${n}.1/32`, "dev", "lo");
    await this.ip(host, "address", "add", `fd00:${n}::1/128`, "dev", "lo", "nodad");
    await this.ip(host, "address", "add", `192.0.2.${n}/24`, "dev", "outer");
    await this.ip(host, "address", "add", `2001:db8::${n}/64`, "dev", "outer", "nodad");
    await this.ip(host, "link", "set", "outer", "up");
    await this.ip(
      host,
      "link",
      "add",
      "vxlan",
      "address",
      hostMac,
      "type",
      "vxlan",
      "external",
      "dstport",
      "8472",
    );
    // There are no neighbours to ask for: whoever is behind it is at the other end.
    await this.ip(host, "link", "set", "vxlan", "arp", "off", "up");
    await this.ip(
      host,
      "link",
      "add",
      "pod",
      "address",
      hostMac,
      ...veth,
      "eth0",
      "address",
      mac,
      "netns",
      this.netns(pod),
    );
    await this.ip(host, "link", "set", "pod", "up");
    await this.ip(host, "route", "add", `10.0.${n}.10/32`, "dev", "pod");
    await this.ip(host, "route", "add", `fd00:${n}::10/128`, "dev", "pod");
    await this.ip(host, "route", "add", "default", "via", OUTSIDE[0]);
    await this.ip(host, "route", "add", "default", "via", OUTSIDE[1]);
    const tunnel = this.mode & abi.CONFIG_TUNNEL;
    const way4 = tunnel ? ["dev", "vxlan", "src", `10.0.${n}.1`] : ["via", `192.0.2.${other}`];
    const way6 = tunnel ? ["dev", "vxlan", "src", `fd00:${n}::1`] : ["via", `2001:db8::${other}`];
    await this.ip(host, "route", "add", `10.0.${other}.0/24`, ...way4);
    await this.ip(host, "route", "add", `fd00:${other}::/64`, ...way6);
    await this.ip(pod, "link", "set", "lo", "up");
    await this.ip(pod, "link", "set", "eth0", "mtu", "1400", "up");
    await this.ip(pod, "address", "add", `10.0.${n}.10/32`, "dev", "eth0");
    await this.ip(pod, "address", "add", `fd00:${n}::10/128`, "dev", "eth0", "nodad");
    for (const gateway of [`10.0.${n}.1`, `fd00:${n}::1`]) {
      await this.ip(pod, "route", "add", gateway, "dev", "eth0");
      await this.ip(pod, "route", "add", "default", "via", gateway);
    }
    return await this.#programs(n, host, mac, hostMac);
  }

  /** What the place calls the namespace at the other end of its device. */
  async #netnsId(place: Place, device: string): Promise<number> {
    const text = await must("ip", "-n", this.netns(place), "-j", "link", "show", device);
    return JSON.parse(text)[0].link_netnsid;
  }

  async #programs(n: number, host: Place, mac: string, hostMac: string): Promise<TestNode> {
    const other = 3 - n;
    const index = async (device: string) =>
      Number(
        (await must("ip", "netns", "exec", this.netns(host), "cat", `/sys/class/net/${device}/ifindex`))
          .trim(),
      );
    const [pod, vxlan, outer] = [await index("pod"), await index("vxlan"), await index("outer")];
    const node = await TestNode.open(this.#entriesMax);
    node.writeConfig({
      flags: this.mode,
      tunnelIfindex: vxlan,
      outerIfindex: outer,
      ipv4Be: ipv4Number(`192.0.2.${n}`),
      ipv6: address(`2001:db8::${n}`),
      gatewayIpv4Be: ipv4Number(`10.0.${n}.1`),
      gatewayIpv6: address(`fd00:${n}::1`),
    });
    for (const remote of ["192.0.2.1", "2001:db8::1", "10.0.1.1", "fd00:1::1"]) {
      node.map("weir_addresses").delete(address(remote));
    }
    for (const own of [`192.0.2.${n}`, `2001:db8::${n}`, `10.0.${n}.1`, `fd00:${n}::1`]) {
      node.setAddress(own, { endpoint: 0, flags: abi.ADDRESS_HOST });
    }
    for (const remote of [`192.0.2.${other}`, `2001:db8::${other}`, `10.0.${other}.1`, `fd00:${other}::1`]) {
      node.setIpcache(remote, 6, `192.0.2.${other}`);
    }
    node.setIpcache(`10.0.${other}.10`, 1000 + other, `192.0.2.${other}`);
    node.setIpcache(`fd00:${other}::10`, 1000 + other, `192.0.2.${other}`);
    node.addEndpoint({
      id: 1,
      identity: 1000 + n,
      ipv4: `10.0.${n}.10`,
      ipv6: `fd00:${n}::10`,
      mac,
      hostMac,
      ifindex: pod,
      netnsId: await this.#netnsId(host, "pod"),
    });
    using netns = Netns.open(`/run/netns/${this.netns(host)}`);
    netns.enter(() => {
      const attach = (program: string, ifindex: number, direction: "ingress" | "egress") =>
        this.#links.push(attachTcx(node.program(program).fd, ifindex, direction));
      attach("from_endpoint", pod, "ingress");
      attach("to_endpoint", pod, "egress");
      attach("from_overlay", vxlan, "ingress");
      attach("to_overlay", vxlan, "egress");
      attach("from_netdev", outer, "ingress");
      attach("to_netdev", outer, "egress");
    });
    return node;
  }
}
