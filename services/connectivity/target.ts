/**
 * What scenarios run against: a lab, one host, or a cluster of Kubernetes. It makes pods and takes them away again, and says how a program is run in a pod,
 * on a node or outside.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";

/** A port that a pod answers on. */
export interface PodPort {
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
  /** Policies may name it so. */
  readonly name?: string;
  /** It is a port of the pod's node too. */
  readonly hostPort?: number;
}

/** A pod that scenarios need. */
export interface PodSpec {
  readonly name: string;
  /** Index of its node; where there are fewer nodes, the last. */
  readonly node: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports?: readonly PodPort[];
  readonly serviceAccount?: string;
  /** It is a program of its node, with the node's addresses, and no endpoint. */
  readonly hostNetwork?: boolean;
}

/** A pod that is ready. */
export interface PodAt {
  readonly namespace: string;
  readonly name: string;
  /** Name of its node. */
  readonly node: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly hostNetwork: boolean;
}

/** A node. */
export interface TargetNode {
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

/** A machine beyond the nodes. */
export interface Outside {
  readonly ipv4: string;
  readonly ipv6: string;
  /** Addresses that it answers for, in different networks. */
  readonly worldIpv4: readonly string[];
  readonly worldIpv6: readonly string[];
}

/** Where a program may run. */
export type Place = { readonly pod: PodAt } | { readonly node: string } | "outside";

/** Weir's services, wherever they are. */
export interface ClusterAccess {
  /** A client of a service, of this node or the cluster's; whoever asks closes it. */
  client(service: string, node?: string): WeirClient;
}

/** Changes what the cluster is to have. Every method is repeatable. */
export interface Changes {
  /** Applies policies and waits until every node has them in force. @throws {TargetError} they are not, in time */
  applyPolicies(manifest: string): Promise<void>;
  /** Deletes what the manifests name, and waits until no node has it in force. */
  deletePolicies(manifest: string): Promise<void>;
  /** Deletes policies whose namespace or name begins so: what a run that was cut off left. */
  sweepPolicies(prefix: string): Promise<void>;
  /** Applies or deletes services. */
  changeServices(verb: "apply" | "delete", manifest: string): Promise<void>;
}

/** A program that runs in a place. */
export interface PlaceProgram {
  /** What it writes, until it ends. To be read once. Fails where what carries it is lost. */
  readonly output: AsyncIterable<Uint8Array<ArrayBuffer>>;
  /** The end of what it wrote to stderr. */
  readonly stderr: string;
  /** Gives it input. @throws {Error} it has ended */
  write(text: string): Promise<void>;
  /** Ends it. Repeatable. */
  stop(): Promise<void>;
}

/** What scenarios run against. */
export interface Target {
  /** "lab demo", "host web-1", "cluster https://192.0.2.1:6443". */
  readonly title: string;
  readonly nodes: readonly TargetNode[];
  readonly outside: Outside | undefined;
  readonly access: ClusterAccess;
  readonly changes: Changes;
  /** Makes pods and waits until they are ready and answer on their ports. @throws {Error} they do not become ready */
  makePods(namespace: string, pods: readonly PodSpec[]): Promise<PodAt[]>;
  /** Takes away all pods of namespaces with this prefix, of this run and of one that was cut off. Repeatable. */
  removePods(namespacePrefix: string): Promise<void>;
  /** Sends what goes from outside to these prefixes to the first node, or no longer. Repeatable. */
  routeOutside(verb: "replace" | "delete", prefixes: readonly string[]): Promise<void>;
  /** Starts the program of traffic there, see prober.ts. */
  start(place: Place, ...words: string[]): PlaceProgram;
  /** Lines that services wrote since then, as JSON; undefined where they cannot be had. */
  logsSince(unixMs: number): Promise<{ readonly node: string; readonly line: string }[] | undefined>;
}

/** Something that the target cannot do, or that did not come about. */
export class TargetError extends Error {
  override readonly name = "TargetError";
}
