/**
 * The service: what the API server has goes into the policy engine, the load balancer and tables of its own; nodes enroll by
 * it. While the API server is away everything stays as it is, and goes on.
 * @module
 */
import { type ApiServer, type Clock, systemClock, WatchedTable } from "@weir/common";
import type { WeirClient } from "@weir/client";
import type { KubernetesNode, Reflection } from "@weir/proto/kubernetes";
import type { ApiClient } from "./api/client.ts";
import { Reflector, type ReflectorOptions } from "./api/reflector.ts";
import { type Resource, RESOURCES } from "./api/resource.ts";
import { ClusterFacts } from "./enrollment/cluster_facts.ts";
import { Enrollments } from "./enrollment/enrollments.ts";
import { type Handed, Handover } from "./handover.ts";
import type { HeldOptions, HeldTarget } from "./held_objects.ts";
import { Mirror, type WantedObject } from "./mirror.ts";
import { NodeEvents } from "./node_events.ts";
import { ObjectFaults } from "./object_faults.ts";
import { hostPortPod, HostPortTarget } from "./reflectors/host_ports.ts";
import { PodTable, pruneNamespace, pruneNode, prunePod } from "./reflectors/pods.ts";
import { POLICY_KINDS, PolicyTarget, prunePolicy } from "./reflectors/policies.ts";
import { PodPoolTarget, prunePodPool } from "./reflectors/pod_pools.ts";
import { PoolTarget, prunePool } from "./reflectors/pools.ts";
import { pruneService, pruneSlice, ServiceTarget } from "./reflectors/services.ts";

/** What the service is built from. */
export interface KubernetesServiceOptions {
  client: ApiClient;
  policyEngine: WeirClient;
  loadBalancer: WeirClient;
  identityAllocator: WeirClient;
  /** Client of the certificate authority; without it no node enrolls. */
  authority?: WeirClient;
  cluster: string;
  /** Of Weir's own objects. */
  namespace: string;
  /** Name of the nodes' service account in that namespace. */
  nodeServiceAccount: string;
  api: ApiServer;
  clock?: Clock;
}

/** Nodes that are told of. */
const NODES_MAX = 50_000;
const LOOK_MS = 500;
const HEALTH = "api-server";

/** One kind that is read. */
interface Reflected {
  readonly resource: Resource;
  // deno-lint-ignore no-explicit-any
  readonly reflector: Reflector<any>;
  readonly mirror?: Mirror;
  /** The API server need not know it. */
  readonly isOptional: boolean;
}

/** Whether there are no objects because nobody installed the kind. */
function isLeftOut({ isOptional, reflector }: Reflected): boolean {
  return isOptional && reflector.state === "ABSENT";
}

/** The service as a whole; nothing runs before `start()`. Its routes come from `mountRoutes`. */
export class KubernetesService {
  readonly api: ApiServer;
  readonly pods: PodTable;
  readonly nodes = new WatchedTable<KubernetesNode>({ name: "nodes", entriesMax: NODES_MAX });
  readonly faults = new ObjectFaults();
  readonly enrollments: Enrollments | undefined;
  readonly policies: Mirror;
  readonly services: Mirror;
  readonly pools: Mirror;
  /** Named pools of pods' addresses on their way to the identity allocator. */
  readonly podPools: Mirror;
  /** What nodes say of their pods and of Services. */
  readonly events: NodeEvents;
  /** Of pods with host ports. */
  readonly hostPorts: Mirror;
  readonly #mirrored: { name: string; target: HeldTarget<unknown>; mirror: Mirror }[] = [];
  readonly #handover: Handover;
  readonly #facts: ClusterFacts | undefined;
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #reflectors: Reflected[] = [];
  readonly #stop = new AbortController();
  #loops: Promise<void>[] = [];

  constructor(options: KubernetesServiceOptions) {
    const { client, api, clock = systemClock, authority, namespace } = options;
    const { log, metrics, health } = api;
    this.api = api;
    this.#client = client;
    this.#clock = clock;
    this.pods = new PodTable(options.cluster);
    this.nodes.pending = true;
    this.events = new NodeEvents({ client, pods: this.pods.table, clock, log, metrics });
    const parts = { clock, log };
    const { policyEngine, loadBalancer } = options;
    this.policies = this.#mirror("policies", (heard) => new PolicyTarget(policyEngine, heard));
    this.services = this.#mirror("services", (heard) => new ServiceTarget(loadBalancer, heard));
    this.pools = this.#mirror("pools", (heard) => new PoolTarget(loadBalancer, heard));
    this.podPools = this.#mirror("pod-pools", (heard) => new PodPoolTarget(options.identityAllocator, heard));
    this.hostPorts = this.#mirror("host-ports", (heard) => new HostPortTarget(loadBalancer, heard));
    for (const { resource, word, isOptional } of POLICY_KINDS) {
      this.#reflectInto(
        this.policies,
        resource,
        (object) => prunePolicy(resource, object),
        (key) => `${word}:${key}`,
        isOptional,
      );
    }
    const source = ({ kind }: Resource) => (key: string) => `${kind}/${key}`;
    this.#reflectInto(this.services, RESOURCES.Service, pruneService, source(RESOURCES.Service));
    this.#reflectInto(this.services, RESOURCES.EndpointSlice, pruneSlice, source(RESOURCES.EndpointSlice));
    this.#reflectInto(this.pools, RESOURCES.CiliumLoadBalancerIPPool, prunePool, (key) => key);
    this.#reflectInto(this.podPools, RESOURCES.CiliumPodIPPool, prunePodPool, (key) => key);
    const complete = () => {
      if (namespaces.synced && pods.synced) this.pods.table.pending = false;
    };
    const namespaces = this.#reflect(RESOURCES.Namespace, {
      prune: pruneNamespace,
      onChange: (key, value) => this.pods.setNamespace(key, value),
      onComplete: complete,
    });
    const pods = this.#reflect(RESOURCES.Pod, {
      prune: prunePod,
      onChange: (key, value, previous) => {
        this.pods.setPod(key, value);
        const wanted = hostPortPod(key, value);
        if (wanted ?? hostPortPod(key, previous)) this.hostPorts.want(key, wanted);
      },
      onComplete: () => {
        complete();
        this.hostPorts.complete(RESOURCES.Pod.kind);
      },
      onFault: (key, error) => {
        this.hostPorts.unread(key, error !== undefined);
        this.faults.unread(RESOURCES.Pod.kind, key, error, this.#clock.nowMs());
      },
    }, this.hostPorts);
    this.#reflect(RESOURCES.Node, {
      prune: pruneNode,
      onChange: (key, value) => {
        if (value === undefined) this.nodes.delete(key);
        else this.nodes.put(key, value);
      },
      onComplete: () => this.nodes.pending = false,
    });
    if (authority !== undefined) {
      this.#facts = new ClusterFacts({ client, authority, namespace, health, ...parts });
      this.enrollments = new Enrollments({
        client,
        authority,
        facts: this.#facts,
        serviceAccount: `${namespace}/${options.nodeServiceAccount}`,
        metrics,
        ...parts,
      });
    }
    this.#handover = new Handover({
      policyEngine,
      loadBalancer,
      policies: () => this.#handed(this.policies),
      services: () => this.#handed(this.services, this.pools, this.hostPorts),
      health,
      ...parts,
    });
    this.#measure();
  }

  /** Begins; resolves at once, readiness tells. */
  start(): void {
    const { signal } = this.#stop;
    for (const { target, mirror } of this.#mirrored) {
      target.held.start();
      mirror.start();
    }
    for (const { reflector } of this.#reflectors) reflector.start();
    if (this.#facts !== undefined) this.#loops.push(this.#facts.keep(signal));
    this.#loops.push(this.#look(), this.#handover.run(signal));
  }

  /** Ends all background work. The clients stay open. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([
      ...this.#reflectors.map(({ reflector }) => reflector.stop()),
      ...this.#mirrored.flatMap(({ target, mirror }) => [mirror.stop(), target.held.stop()]),
      ...this.#loops,
    ]);
  }

  /** How far each kind is read. */
  reflections(): Reflection[] {
    return this.#reflectors.map(({ resource, reflector, mirror }) => ({
      name: reflector.name,
      state: reflector.state,
      sinceUnixS: reflector.sinceMs / 1000,
      objects: reflector.size,
      resourceVersion: reflector.resourceVersion,
      heardUnixS: reflector.heardMs / 1000,
      lists: reflector.lists,
      events: reflector.events,
      waiting: mirror?.waiting ?? 0,
      faults: this.faults.countOf(resource.kind),
      error: reflector.error?.message ?? "",
    }));
  }

  /** How far what these mirrors hand on is there. */
  #handed(...mirrors: readonly Mirror[]): Handed {
    const kinds = this.#reflectors.filter(({ mirror }) => mirror !== undefined && mirrors.includes(mirror));
    // A kind that the API server does not know has no objects; that it was forgotten is another matter.
    const isRead = kinds.every(({ reflector }) => reflector.synced || reflector.state === "ABSENT") &&
      mirrors.every((mirror) => mirror.isHandedOn);
    const away = kinds.filter((kind) =>
      !isLeftOut(kind) && (!kind.reflector.synced || kind.reflector.state !== "WATCHING")
    );
    const refused = mirrors.reduce((sum, { faults, unreadable }) => sum + faults.size + unreadable, 0);
    const missing = away.length > 0
      ? `the API server does not show ${away.map(({ reflector }) => reflector.name).join(", ")}`
      : refused > 0
      ? `${refused} refused, of which a version before may have been in force (GET /v1/objectfaults)`
      : "";
    return { isRead, missing };
  }

  /** @param name of its line in the readiness */
  #mirror(name: string, targetOf: (heard: HeldOptions) => HeldTarget<unknown>): Mirror {
    const { log } = this.api, clock = this.#clock;
    const target = targetOf({
      onChange: (name) => mirror.heldChanged(name),
      onSynced: () => mirror.compareAll(),
      clock,
      log,
    });
    const mirror: Mirror = new Mirror({
      target,
      clock,
      log,
      onFault: (object, fault) => this.faults.refused(object, fault),
    });
    this.#mirrored.push({ name, target, mirror });
    return mirror;
  }

  #reflectInto(
    mirror: Mirror,
    resource: Resource,
    prune: ReflectorOptions<WantedObject>["prune"],
    nameOf: (key: string) => string,
    isOptional = false,
  ): void {
    this.#reflect<WantedObject>(
      resource,
      {
        prune,
        onChange: (key, value) => mirror.want(nameOf(key), value),
        onComplete: () => mirror.complete(resource.kind),
        onFault: (key, error) => {
          mirror.unread(nameOf(key), error !== undefined);
          this.faults.unread(resource.kind, key, error, this.#clock.nowMs());
        },
      },
      mirror,
      isOptional,
    );
  }

  #reflect<T>(
    resource: Resource,
    options: ReflectorOptions<T>,
    mirror?: Mirror,
    isOptional = false,
  ): Reflector<T> {
    const reflector = new Reflector<T>(this.#client, resource, {
      clock: this.#clock,
      log: this.api.log,
      onFault: (key, error) => this.faults.unread(resource.kind, key, error, this.#clock.nowMs()),
      ...options,
    });
    this.#reflectors.push({ resource, reflector, mirror, isOptional });
    return reflector;
  }

  /** Readiness: not before everything was read once; afterwards what is away is said, and nothing ends. */
  async #look(): Promise<void> {
    const { health } = this.api, { signal } = this.#stop;
    while (!signal.aborted) {
      const unread = this.#reflectors.filter(({ reflector }) =>
        !reflector.synced && reflector.state !== "ABSENT"
      );
      const away = this.#reflectors.filter((one) =>
        one.reflector.state === "AWAY" || one.reflector.state === "ABSENT" && !isLeftOut(one)
      );
      const told = [...new Set([...unread, ...away])].map(({ reflector }) => reflector);
      const states = [...new Set(told.map(({ state }) => state))].map((state) =>
        `${state}: ${told.filter((one) => one.state === state).map(({ name }) => name).join(", ")}`
      );
      const error = told.find(({ state, error }) => state !== "ABSENT" && error !== undefined)?.error
        ?.message;
      const text = [...states, ...(error === undefined ? [] : [error])].join("; ");
      if (unread.length > 0) health.waitFor(HEALTH, text);
      else health.ok(HEALTH, text || this.#client.server);
      for (const { name, mirror } of this.#mirrored) {
        const faults = mirror.faults.size;
        const why = mirror.error === undefined ? "" : `${mirror.waiting} wait: ${mirror.error.message}`;
        const refused = faults === 0 ? "" : `${faults} refused (GET /v1/objectfaults)`;
        health.ok(name, [why, refused].filter((part) => part !== "").join("; ") || "ok");
      }
      await this.#clock.sleep(LOOK_MS, signal);
    }
  }

  #measure(): void {
    const { metrics } = this.api;
    const each = (value: (one: Reflection) => number) => () =>
      this.reflections().map((one) =>
        [{ resource: one.name }, value(one)] as [Record<string, string>, number]
      );
    metrics.gauge("weir_kubernetes_objects", "Objects that are kept, by kind").collect(
      each((one) => one.objects),
    );
    metrics.gauge("weir_kubernetes_lists_total", "Complete lists, by kind").collect(each((one) => one.lists));
    metrics.gauge("weir_kubernetes_events_total", "Events, by kind").collect(each((one) => one.events));
    metrics.gauge("weir_kubernetes_away", "1 for a kind whose watch is lost")
      .collect(each((one) => one.state === "AWAY" ? 1 : 0));
    metrics.gauge("weir_kubernetes_object_faults", "Objects that were refused, by kind")
      .collect(each((one) => one.faults));
    metrics.gauge("weir_kubernetes_waiting", "Changes that a service has not taken yet")
      .collect(() => this.#mirrored.map(({ target, mirror }) => [{ to: target.name }, mirror.waiting]));
    metrics.gauge("weir_kubernetes_written_total", "Objects that a service took or let go of")
      .collect(() => this.#mirrored.map(({ target, mirror }) => [{ to: target.name }, mirror.written]));
  }
}
