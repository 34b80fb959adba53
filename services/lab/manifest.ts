/** One document of a lab's manifests, as far as the lab honours it. @module */
import type { KindTakenBy } from "@weir/common/manifest";

/** Where a document came from. */
export interface Source {
  readonly file: string;
  /** First line of the document in the file, from 1. */
  readonly line: number;
}

/** A Namespace. */
export interface NamespaceManifest {
  readonly kind: "Namespace";
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly source: Source;
}

/** A port of a container that has a name. */
export interface NamedPortManifest {
  readonly name: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
}

/** A port of a container, as services see it. */
export interface ContainerPortManifest {
  /** "" for a port without a name. */
  readonly name: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
  /** 0: not on the node. */
  readonly hostPort: number;
  readonly hostIp: string;
}

/** A Pod, as far as a lab honours it. */
export interface PodManifest {
  readonly kind: "Pod";
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly nodeName: string | undefined;
  readonly serviceAccountName: string;
  /** Its commands run in the namespace of its node, with the node's addresses: no endpoint, no policy of its own. */
  readonly hostNetwork: boolean;
  /** Named pools of its addresses, by its annotation ipam.cilium.io/ip-pool; "": the node's own prefixes. */
  readonly pool: string;
  readonly ports: readonly NamedPortManifest[];
  readonly containerPorts: readonly ContainerPortManifest[];
  /** Numbers of ports that must be listened on before services use the pod (readinessProbe). */
  readonly readyPorts: readonly number[];
  /** How long its commands have from SIGTERM to their end. */
  readonly gracePeriodS: number;
  /** How long a deleted pod waits before SIGTERM (lifecycle.preStop.sleep). */
  readonly preStopS: number;
  /** Commands to run in the pod's namespace, one per container that has one. */
  readonly commands: readonly PodCommand[];
  readonly source: Source;
}

/** What one container runs. */
export interface PodCommand {
  readonly container: string;
  readonly words: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string | undefined;
}

/** A policy; the policy engine reads its text itself. */
export interface PolicyManifest {
  readonly kind: KindTakenBy<"policy-engine">;
  readonly name: string;
  readonly namespace: string;
  /** Name of the engine's object: "cnp:NAMESPACE/NAME", "ccnp:NAME", "knp:NAMESPACE/NAME". */
  readonly objectName: string;
  readonly text: string;
  readonly source: Source;
}

/** A Service, EndpointSlice or pool; the load balancer reads the text itself. */
export interface ServiceManifest {
  readonly kind: KindTakenBy<"load-balancer">;
  readonly name: string;
  readonly namespace: string;
  readonly text: string;
  readonly source: Source;
}

/** One document. */
export type Manifest = NamespaceManifest | PodManifest | PolicyManifest | ServiceManifest;
