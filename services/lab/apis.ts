/**
 * What a lab asks of the services, as an interface: tests give their own.
 *
 * @module
 */
import type { Endpoint } from "@weir/proto/endpoint";
import type { Node } from "@weir/proto/identity";
import type { Change, Pod as ServicePod, Service } from "@weir/proto/loadbalancer";
import type { Policy } from "@weir/proto/policy";

/** The endpoint manager and the datapath of one node. */
export interface NodeApi {
  putEndpoint(endpoint: Partial<Endpoint> & { name: string }): Promise<void>;
  /** Answers after the endpoint is gone, or was not there. */
  deleteEndpoint(name: string): Promise<void>;
  listEndpoints(): Promise<Endpoint[]>;
  /** Identities of the prefixes that the node's kernel knows: "10.0.1.2/32", "fd00::2/128". */
  listIpcache(): Promise<ReadonlyMap<string, number>>;
}

/** The cluster's services. */
export interface ClusterApi {
  getPolicy(name: string): Promise<Policy | undefined>;
  putPolicy(policy: Partial<Policy> & { name: string }): Promise<Policy>;
  /** False when there was none. */
  deletePolicy(name: string): Promise<boolean>;
  listNodes(): Promise<Node[]>;
  /** Waits until the newest policies are in force at every node, at most so long. Answers the nodes where they are not. */
  waitForPolicies(timeoutMs: number): Promise<string[]>;
  /** Gives the load balancer a text of manifests, or takes away what it names; other kinds in it are left alone. */
  changeServices(verb: "apply" | "delete", text: string, file: string): Promise<Change[]>;
  listServices(): Promise<Service[]>;
  putPod(pod: Partial<ServicePod> & { name: string }): Promise<void>;
  deletePod(name: string): Promise<void>;
}
