/** Which ways lead from a node to another, and how large packets on them are. Pure. @module */
import { IpAddress, type Prefix } from "@weir/common";
import type { NodeConfig, RemoteNode } from "@weir/proto/datapath";
import { parseAddress, parsePrefix } from "../kernel/addresses.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A way to another node for one family. */
export interface PathSpec {
  kind: "POD" | "UNDERLAY";
  family: 4 | 6;
  /** Addresses of 4 or 16 bytes: this node's, the other's. */
  source: Bytes;
  destination: Bytes;
  /** Text of the destination. */
  address: string;
  /** Bytes of the largest packet that goes there. */
  mtuWanted: number;
}

/** Bytes of pods' packets, and what the tunnel adds to them. */
export interface PathSizes {
  podMtu: number;
  overhead: number;
}

/**
 * The ways from the node to `remote`: as pods' packets go, to the gateway that stands at the far end, and to the node itself. The
 * second shows whether it is the way that fails or what lies on it.
 */
export function pathsTo(
  remote: RemoteNode,
  config: NodeConfig,
  { podMtu, overhead }: PathSizes,
): PathSpec[] {
  const paths: PathSpec[] = [];
  const add = (kind: "POD" | "UNDERLAY", source: string, destination: string, mtuWanted: number) => {
    const from = parseAddress(source), to = parseAddress(destination);
    if (from.family !== to.family) return;
    const family = to.bytes.length === 4 ? 4 : 6;
    paths.push({ kind, family, source: from.bytes, destination: to.bytes, address: to.text, mtuWanted });
  };
  // The underlay carries the tunnel by one family: IPv4 where both have it.
  const carriers = overhead === 0
    ? [[config.ipv4, remote.ipv4], [config.ipv6, remote.ipv6]]
    : [config.ipv4 !== "" && remote.ipv4 !== "" ? [config.ipv4, remote.ipv4] : [config.ipv6, remote.ipv6]];
  const there = carriers.filter(([own, far]) => own !== "" && far !== "");
  for (
    const [own, gateway, cidr, far] of [
      [config.ipv4, config.gatewayV4, remote.podCidrV4, remote.ipv4],
      [config.ipv6, config.gatewayV6, remote.podCidrV6, remote.ipv6],
    ]
  ) {
    // Without a tunnel the route needs the other's address of the same family.
    const routed = overhead === 0 ? own !== "" && far !== "" : there.length > 0;
    if (cidr === "" || gateway === "" || !routed) continue;
    add("POD", own || gateway, gatewayOf(parsePrefix(cidr)), podMtu);
  }
  for (const [own, far] of there) add("UNDERLAY", own, far, podMtu + overhead);
  return paths;
}

/** Addresses that a node sends probes and answers from. */
export function addressesOf(remote: RemoteNode): string[] {
  return [
    ...[remote.ipv4, remote.ipv6].filter((text) => text !== "").map((text) => parseAddress(text).text),
    ...[remote.podCidrV4, remote.podCidrV6].filter((text) => text !== "").map((text) =>
      gatewayOf(parsePrefix(text))
    ),
  ];
}

/** The first address of a node's pod CIDR is its gateway's (services/endpoint-manager, ipam.ts). */
function gatewayOf(prefix: Prefix): string {
  return prefix.addressAt(1).text;
}

/** Text of address bytes. */
export function textOf(bytes: Uint8Array): string {
  return IpAddress.fromBytes(bytes).text;
}
