/** The node that most tests start from. @module */
import { TestNode } from "./node.ts";
import { packet, type PacketSpec } from "./packet.ts";

export const A = 1, B = 2;

/** What a case needs to know about each family. */
export const FAMILIES = [
  {
    name: "IPv4",
    a: "10.0.1.10",
    b: "10.0.1.11",
    remote: "10.0.2.20",
    world: "198.51.100.7",
    host: "192.0.2.1",
    icmp: 1,
    ttlAt: 22,
  },
  {
    name: "IPv6",
    a: "fd00:1::10",
    b: "fd00:1::11",
    remote: "fd00:2::20",
    world: "2001:db8:9::7",
    host: "2001:db8::1",
    icmp: 58,
    ttlAt: 21,
  },
];
export type Family = typeof FAMILIES[number];

/** Endpoints A (identity 1000) and B (1001) here, 10.0.2.20 / fd00:2::20 (1002) on node 192.0.2.2. */
export async function twoEndpoints(entriesMax: Record<string, number> = {}) {
  const node = await TestNode.open(entriesMax);
  const devices = [node.addDevice(), node.addDevice()];
  node.addEndpoint({ id: A, identity: 1000, ipv4: "10.0.1.10", ipv6: "fd00:1::10", ifindex: devices[0] });
  node.addEndpoint({ id: B, identity: 1001, ipv4: "10.0.1.11", ipv6: "fd00:1::11", ifindex: devices[1] });
  node.setIpcache("10.0.2.20", 1002, "192.0.2.2");
  node.setIpcache("fd00:2::20", 1002, "192.0.2.2");
  const from = (endpoint: number, spec: PacketSpec) =>
    node.run("from_endpoint", packet(spec), devices[endpoint - 1]);
  const to = (endpoint: number, spec: PacketSpec, mark = 0) =>
    node.run("to_endpoint", packet(spec), devices[endpoint - 1], mark);
  return { node, devices, from, to };
}
