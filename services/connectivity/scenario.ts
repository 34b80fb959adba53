/**
 * What a scenario is: traffic, what must come of it, and the flows that must and must not be seen.
 *
 * @module
 */
import type { Service } from "@weir/proto/loadbalancer";
import type { Outside, PodAt, TargetNode } from "./target.ts";
import type { Protocol } from "./traffic.ts";

/** IP families. */
export type Family = 4 | 6;

/** What there is while a scenario runs. */
export interface World {
  /** Of the scenario's own pods. */
  readonly namespace: string;
  readonly nodes: readonly TargetNode[];
  readonly outside: Outside | undefined;
  /** A pod of its own namespace, or "plain/NAME" of the one without policies. */
  pod(name: string): PodAt;
  /** A service of its own namespace, as the load balancer has it. */
  service(name: string): Service;
}

/** Who sends: a pod, a node by its index, the machine beyond the nodes. */
export type Source = { readonly pod: string } | { readonly node: number } | "outside";

/** Whom it goes to. */
export interface Destination {
  readonly title: string;
  /** Name of the pod that it is. */
  readonly pod?: string;
  /** Undefined: there is no such address of this family. */
  at(world: World, family: Family): { readonly address: string; readonly port: number } | undefined;
  /** How `weir explain` is told of it, where the address is not the right word. */
  explainAs?(world: World): string;
}

/** The far end took part. */
export interface Answered {
  readonly kind: "answered";
  /** Names of who may have answered. */
  readonly by?: readonly string[];
  /** All of the `count` connections were answered by one, or every one of `by` has answered some. */
  readonly share?: "one" | "all";
  /** The far end saw the sender's own address. */
  readonly keepsSource?: boolean;
  /** Name of the policy that let it through, by side. */
  readonly policies?: { readonly ingress?: string; readonly egress?: string };
}

/** Weir dropped it. */
export interface Dropped {
  readonly kind: "dropped";
  readonly side: "ingress" | "egress";
  /** POLICY_DENIED: nothing allows it. POLICY_DENY: something denies it. */
  readonly reason: string;
  /** Name of the policy that is named for it. */
  readonly policy?: string;
}

/** The network or the far end said no, and no flow is expected of it. */
export interface Refused {
  readonly kind: "refused";
}

/** What must come of traffic. */
export type Outcome = Answered | Dropped | Refused;

/** One kind of traffic; it is sent once for each family that both ends have. */
export interface Action {
  readonly from: Source;
  readonly to: Destination;
  readonly protocol: Protocol;
  readonly expect: Outcome;
  readonly families?: readonly Family[];
  /** Connections; default 1. */
  readonly count?: number;
  /** See {@link Probe.bytes}; "mtu": as many as go through the sender's device at once. */
  readonly bytes?: number | "mtu";
}

/** What a scenario needs of its target. */
export interface Needs {
  readonly nodes?: number;
  readonly outside?: boolean;
}

/** A scenario. */
export interface Scenario {
  readonly name: string;
  /** What it shows, in one line. */
  readonly says: string;
  readonly needs?: Needs;
  /** Policies as manifests, in its own namespace; without any it runs beside all others that have none. */
  readonly policies?: (namespace: string) => string;
  readonly actions: readonly Action[];
}

/** A pod's port. */
export function pod(name: string, port: number): Destination {
  return {
    title: port === 0 ? name : `${name}:${port}`,
    pod: name,
    at: (world, family) => {
      const { ipv4, ipv6 } = world.pod(name);
      return addressed(family === 4 ? ipv4 : ipv6, port);
    },
    explainAs: (world) => {
      const { namespace, name: podName, hostNetwork, node } = world.pod(name);
      return hostNetwork ? node : `${namespace}/${podName}`;
    },
  };
}

/** A node's port, by its index. */
export function node(index: number, port = 0): Destination {
  return {
    title: `node ${index + 1}${port === 0 ? "" : `:${port}`}`,
    at: ({ nodes }, family) => addressed(family === 4 ? nodes[index]?.ipv4 : nodes[index]?.ipv6, port),
  };
}

/** A service's cluster IP and first port. */
export function service(name: string): Destination {
  return {
    title: `service ${name}`,
    at: (world, family) => {
      const { clusterIps, ports } = world.service(name);
      const address = clusterIps.find((one) => one.includes(":") === (family === 6));
      return addressed(address, ports[0]?.frontends[0]?.port ?? 0);
    },
  };
}

/** A service's address of a load balancer and first port. */
export function balancer(name: string): Destination {
  return {
    title: `load balancer ${name}`,
    at: (world, family) => {
      const { externalIps, ports } = world.service(name);
      const address = externalIps.find((one) => one.includes(":") === (family === 6));
      return addressed(address, ports[0]?.frontends[0]?.port ?? 0);
    },
  };
}

/** The port of nodes that a service has, at the node of this index. */
export function nodePort(name: string, index: number): Destination {
  return {
    title: `node port of ${name} at node ${index + 1}`,
    at: (world, family) => {
      const { frontends } = world.service(name).ports[0];
      const port = frontends.find(({ kind }) => kind === "NODE_PORT")?.port ?? 0;
      return node(index, port).at(world, family);
    },
  };
}

/** An address of the world, by its index, and the port there. */
export function world(index: number, port = 0): Destination {
  return {
    title: `world ${index + 1}${port === 0 ? "" : `:${port}`}`,
    at: ({ outside }, family) =>
      addressed(family === 4 ? outside?.worldIpv4[index] : outside?.worldIpv6[index], port),
  };
}

function addressed(address: string | undefined, port: number) {
  return address ? { address, port } : undefined;
}
