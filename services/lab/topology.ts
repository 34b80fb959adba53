/**
 * What a lab is made of: names and addresses, computed from the lab's name and the number of nodes.
 *
 * ```
 *            weir-LAB-underlay: bridge br0
 *        ┌──────────────┼──────────────┬─────────────┐
 *   weir-LAB-node-1  weir-LAB-node-2  ...      weir-LAB-outside
 *     eth0 .11         eth0 .12                  eth0 .100, and "the world" on lo
 *     pods of node-1   pods of node-2
 * ```
 *
 * Every lab has the same addresses: nothing of a lab touches the host's own devices, so labs do not meet.
 *
 * @module
 */

/** Most nodes of one lab: the last byte of the underlay address is 10 + index. */
export const NODES_MAX = 64;

const LAB_NAME = /^[a-z][a-z0-9]{0,11}(-[a-z0-9]{1,8}){0,2}$/;

/** One node of a lab. */
export interface LabNode {
  /** "node-1" */
  readonly name: string;
  /** "LAB-node-1": names pins, sockets and state. */
  readonly instance: string;
  /** Name of its network namespace under /run/netns. */
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

/** The host beyond the nodes. */
export interface OutsideHost {
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
  /** Addresses of "the world" that it answers for, beyond its own. */
  readonly worldIpv4: readonly string[];
  readonly worldIpv6: readonly string[];
}

/** A whole lab, before anything of it exists. */
export interface Topology {
  readonly lab: string;
  readonly underlayNetns: string;
  readonly underlayPrefixLengthV4: 24;
  readonly underlayPrefixLengthV6: 64;
  readonly nodes: readonly LabNode[];
  readonly outside: OutsideHost;
  /** Instance whose agent runs the control plane. */
  readonly controlPlane: string;
}

/** Wrong name or size of a lab. */
export class TopologyError extends Error {
  override readonly name = "TopologyError";
}

/** Computes the topology of a lab; the same arguments give the same topology. */
export function topology(lab: string, nodesCount: number): Topology {
  if (!LAB_NAME.test(lab)) {
    throw new TopologyError(
      `Cannot name a lab "${lab}": expected lower-case letters, digits and up to two dashes, first a letter`,
    );
  }
  if (!Number.isInteger(nodesCount) || nodesCount < 1 || nodesCount > NODES_MAX) {
    throw new TopologyError(`Cannot make a lab of ${nodesCount} nodes: expected 1 to ${NODES_MAX}`);
  }
  const nodes = Array.from({ length: nodesCount }, (_, index): LabNode => {
    const name = `node-${index + 1}`;
    return {
      name,
      instance: `${lab}-${name}`,
      netns: `${namespacePrefix(lab)}${name}`,
      ipv4: `172.30.0.${11 + index}`,
      ipv6: `fd00:30::${(11 + index).toString(16)}`,
    };
  });
  return {
    lab,
    underlayNetns: `${namespacePrefix(lab)}underlay`,
    underlayPrefixLengthV4: 24,
    underlayPrefixLengthV6: 64,
    nodes,
    outside: {
      netns: `${namespacePrefix(lab)}outside`,
      ipv4: "172.30.0.100",
      ipv6: "fd00:30::100",
      worldIpv4: ["198.51.100.10", "198.51.100.20", "203.0.113.10"],
      worldIpv6: ["2001:db8:100::10", "2001:db8:100::20", "2001:db8:113::10"],
    },
    controlPlane: nodes[0].instance,
  };
}

/** Every network namespace of a lab has a name that begins with this; `down` relies on it. */
export function namespacePrefix(lab: string): string {
  // Two dashes end the lab's name, so that lab "a" never sweeps the namespaces of lab "a-b".
  return `weir-${lab}--`;
}

/** Name of a pod's network namespace. */
export function podNetns(lab: string, namespace: string, pod: string): string {
  return `${namespacePrefix(lab)}pod-${namespace}.${pod}`;
}
