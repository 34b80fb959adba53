/** Weir's services as the operator sees them: tables that a test fills. The operator reads them by the same HTTP as ever. @module */
import { ApiServer, WatchedTable } from "@weir/common";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { KubernetesNode, KubernetesPod, ObjectFault } from "@weir/proto/kubernetes";
import { AddressPool, Service } from "@weir/proto/loadbalancer";
import { NodePolicy, Policy, PolicyFault } from "@weir/proto/policy";
import type { FeedTargets } from "@weir/kubernetes/operator";

/** One service for each that the operator asks. */
export class WeirServices {
  readonly identities = new WatchedTable<Identity>({ name: "identities", entriesMax: 1_000_000 });
  readonly ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache", entriesMax: 1_000_000 });
  readonly nodes = new WatchedTable<Node>({ name: "nodes" });
  readonly policies = new WatchedTable<Policy>({ name: "policies" });
  readonly policyFaults = new WatchedTable<PolicyFault>({ name: "policyfaults" });
  readonly nodePolicies = new WatchedTable<NodePolicy>({ name: "nodepolicies" });
  readonly services = new WatchedTable<Service>({ name: "services" });
  readonly pools = new WatchedTable<AddressPool>({ name: "addresspools" });
  readonly pods = new WatchedTable<KubernetesPod>({ name: "pods", entriesMax: 1_000_000 });
  readonly kubernetesNodes = new WatchedTable<KubernetesNode>({ name: "nodes" });
  readonly objectFaults = new WatchedTable<ObjectFault>({ name: "objectfaults" });
  readonly targets: FeedTargets;

  constructor() {
    const allocator = new ApiServer({ name: "identity-allocator" }),
      engine = new ApiServer({ name: "policy-engine" });
    const balancer = new ApiServer({ name: "load-balancer" }),
      kubernetes = new ApiServer({ name: "kubernetes" });
    allocator.collection({ name: "identities", message: Identity, table: this.identities });
    allocator.collection({ name: "ipcache", message: IpcacheEntry, table: this.ipcache });
    allocator.collection({ name: "nodes", message: Node, table: this.nodes });
    engine.collection({ name: "policies", message: Policy, table: this.policies });
    // These two the policy engine lists, and does not let be watched.
    engine.collection<PolicyFault>({
      name: "policyfaults",
      message: PolicyFault,
      list: () => this.policyFaults.list(),
    });
    engine.collection<NodePolicy>({
      name: "nodepolicies",
      message: NodePolicy,
      list: () => this.nodePolicies.list(),
    });
    balancer.collection({ name: "services", message: Service, table: this.services });
    balancer.collection({ name: "addresspools", message: AddressPool, table: this.pools });
    kubernetes.collection({ name: "pods", message: KubernetesPod, table: this.pods });
    kubernetes.collection({ name: "nodes", message: KubernetesNode, table: this.kubernetesNodes });
    kubernetes.collection({ name: "objectfaults", message: ObjectFault, table: this.objectFaults });
    this.targets = {
      identityAllocator: { handler: allocator.fetch },
      policyEngine: { handler: engine.fetch },
      loadBalancer: { handler: balancer.fetch },
      kubernetes: { handler: kubernetes.fetch },
    };
  }

  /** A pod's endpoint has come. */
  addPod(namespace: string, pod: string, number: number, identity = 1000): void {
    const address = `10.${100 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
    this.ipcache.put(
      `${address}/32`,
      IpcacheEntry.create({
        prefix: `${address}/32`,
        identity,
        node: "node-1",
        nodeIpv4: "192.0.2.11",
        endpoint: `${namespace}/${pod}`,
        namespace,
        podName: pod,
        namedPorts: [{ name: "http", port: 8080, protocol: "TCP" }],
        labels: [
          `k8s:io.kubernetes.pod.namespace=${namespace}`,
          "k8s:io.cilium.k8s.policy.serviceaccount=default",
        ],
      }),
    );
  }

  /** A pod's endpoint has gone. */
  removePod(number: number): void {
    this.ipcache.delete(`10.${100 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}/32`);
  }
}
