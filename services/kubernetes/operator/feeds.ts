/** What the operator knows of Weir's own services. @module */
import { type Target, WeirClient } from "@weir/client";
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { KubernetesNode, KubernetesPod, ObjectFault } from "@weir/proto/kubernetes";
import { AddressPool, Service } from "@weir/proto/loadbalancer";
import { NodePolicy, Policy, PolicyFault } from "@weir/proto/policy";
import { EndpointJoin } from "./endpoint_join.ts";
import { Feed } from "./feed.ts";
import { PolledFeed } from "./polled_feed.ts";

/** Where Weir's services are: sockets, handlers or URLs. */
export interface FeedTargets {
  identityAllocator: Target | string;
  policyEngine: Target | string;
  loadBalancer: Target | string;
  /** The service that the operator is a part of. */
  kubernetes: Target | string;
}

/** Copies of what is read, for one term. */
export class Feeds {
  readonly identities: Feed<Identity>;
  readonly ipcache: Feed<IpcacheEntry>;
  readonly nodes: Feed<Node>;
  readonly policies: Feed<Policy>;
  readonly policyFaults: PolledFeed<PolicyFault>;
  readonly nodePolicies: PolledFeed<NodePolicy>;
  readonly services: Feed<Service>;
  readonly pools: Feed<AddressPool>;
  readonly pods: Feed<KubernetesPod>;
  readonly kubernetesNodes: Feed<KubernetesNode>;
  readonly objectFaults: Feed<ObjectFault>;
  /** Pods' endpoints, from the ipcache. */
  readonly endpoints: EndpointJoin;
  readonly #endpointListeners: ((key: string) => void)[] = [];
  readonly #clients: WeirClient[];

  constructor(targets: FeedTargets, { clock, log }: { clock: Clock; log?: Logger }) {
    const allocator = new WeirClient(targets.identityAllocator, { joint: true });
    const engine = new WeirClient(targets.policyEngine, { joint: true });
    const balancer = new WeirClient(targets.loadBalancer, { joint: true });
    const kubernetes = new WeirClient(targets.kubernetes, { joint: true });
    this.#clients = [allocator, engine, balancer, kubernetes];
    this.identities = new Feed(allocator.collection("identities", Identity), log);
    this.ipcache = new Feed(allocator.collection("ipcache", IpcacheEntry), log);
    this.nodes = new Feed(allocator.collection("nodes", Node), log);
    this.policies = new Feed(engine.collection("policies", Policy), log);
    this.policyFaults = new PolledFeed(engine.collection("policyfaults", PolicyFault), ({ name }) => name, {
      clock,
      log,
    });
    this.nodePolicies = new PolledFeed(engine.collection("nodepolicies", NodePolicy), ({ node }) => node, {
      clock,
      log,
    });
    this.services = new Feed(balancer.collection("services", Service), log);
    this.pools = new Feed(balancer.collection("addresspools", AddressPool), log);
    this.pods = new Feed(kubernetes.collection("pods", KubernetesPod), log);
    this.kubernetesNodes = new Feed(kubernetes.collection("nodes", KubernetesNode), log);
    this.objectFaults = new Feed(kubernetes.collection("objectfaults", ObjectFault), log);
    this.endpoints = new EndpointJoin((key) => {
      for (const listener of this.#endpointListeners) listener(key);
    });
    this.ipcache.listen((prefix, value, previous) => this.endpoints.change(prefix, value, previous));
  }

  /** Hears "NAMESPACE/POD" of endpoints that may have changed. */
  listenEndpoints(listener: (key: string) => void): void {
    this.#endpointListeners.push(listener);
  }

  start(): void {
    for (const feed of this.#all()) feed.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all().map((feed) => feed.stop()));
    for (const client of this.#clients) client.close();
  }

  #all(): { start(): void; stop(): Promise<void> }[] {
    return [
      this.identities,
      this.ipcache,
      this.nodes,
      this.policies,
      this.policyFaults,
      this.nodePolicies,
      this.services,
      this.pools,
      this.pods,
      this.kubernetesNodes,
      this.objectFaults,
    ];
  }
}
