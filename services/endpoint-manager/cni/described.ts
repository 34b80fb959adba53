/** What an endpoint is called and known by. @module */
import type { NamedPort } from "@weir/proto/identity";

/** What describes a container: Kubernetes, or its runtime. */
export interface Described {
  /** Of the endpoint. */
  readonly name: string;
  readonly namespace: string;
  readonly podName: string;
  /** "": no pod of Kubernetes. */
  readonly podUid: string;
  readonly labels: readonly string[];
  readonly namedPorts: readonly NamedPort[];
  /** Named pools of its addresses; "": the node's pod CIDRs. */
  readonly poolV4: string;
  readonly poolV6: string;
}
