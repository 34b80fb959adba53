/** A cluster of Kubernetes as a target: everything that is made, and everything that is asked, goes by the API server. @module */
import { setTimeout as delay } from "node:timers/promises";
import { WeirClient } from "@weir/client";
import type { Handler } from "@weir/common/handler";
import { type ApiClient, fetchPodLog, type KubernetesObject, RESOURCES } from "@weir/kubernetes/api";
import { PROBER, PROBER_FLAGS } from "../place_process.ts";
import {
  type ClusterAccess,
  type Place,
  type PlaceProgram,
  type PodAt,
  type PodSpec,
  type Target,
  TargetError,
  type TargetNode,
} from "../target.ts";
import { KubernetesChanges } from "./kubernetes_changes.ts";
import { PodProgram, sentAlong } from "./pod_program.ts";
import {
  accountObjects,
  byFamily,
  CONTAINER,
  MARK,
  namespaceObject,
  podAt,
  podObject,
  whyNotReady,
} from "./test_pods.ts";
import { isReady, WEIR_CONTAINER, type WeirPod, WeirPods } from "./weir_pods.ts";

/** How long pods may take until they are ready: images may have to be pulled. */
const READY_MS_MAX = 300_000;
/** How long namespaces may take until they are gone. */
const GONE_MS_MAX = 180_000;
/** The first call begins a program in a pod. */
const CALL_MS_MAX = 45_000;
const POLL_MS = 500, LOG_BYTES_MAX = 8 << 20;
/** Nodes that scenarios use. */
const NODES_MAX = 2;
const { Namespace, Node, Pod, ServiceAccount } = RESOURCES;
/** What is needed to speak to a cluster. */
export interface KubernetesTargetOptions {
  readonly client: ApiClient;
  /** Where Weir is. */
  readonly namespace: string;
  /** Of the pods: it has deno, ip, ping and sleep. Default: the one of Weir's own pods on nodes. */
  readonly image?: string;
}

/** A cluster on which Weir is installed. */
export class KubernetesTarget implements Target, AsyncDisposable {
  readonly title: string;
  readonly outside = undefined;
  readonly access: ClusterAccess;
  readonly changes: KubernetesChanges;
  readonly #onNodes = new Map<string, PodAt>();

  private constructor(
    readonly options: KubernetesTargetOptions,
    readonly nodes: readonly TargetNode[],
    readonly weirPods: WeirPods,
    readonly planePod: WeirPod,
    readonly prober: readonly string[],
  ) {
    this.title = `cluster ${options.client.server}`;
    this.access = {
      client: (service, node) =>
        new WeirClient({ handler: this.handler(service, node) }, { deadlineMs: CALL_MS_MAX }),
    };
    this.changes = new KubernetesChanges(options.client, this.access);
  }

  /** @throws {ApiServerError} @throws {TargetError} Weir is not ready there */
  static async open(options: KubernetesTargetOptions): Promise<KubernetesTarget> {
    const { client, namespace } = options;
    const [weirPods, nodes] = await Promise.all([WeirPods.open(client, namespace), nodesOf(client)]);
    const { plane, byNode } = weirPods;
    const good = nodes.filter(({ name }) => byNode.has(name)).slice(0, NODES_MAX);
    if (plane === undefined || good.length === 0) {
      const what = plane === undefined ? "control plane" : "node";
      throw new TargetError(
        `Cannot test ${client.server}: no ${what} of Weir is ready in namespace ${namespace}; see weir status --kubernetes`,
      );
    }
    return new KubernetesTarget(options, good, weirPods, plane, await sentAlong(PROBER, PROBER_FLAGS));
  }

  /** What asks a service, of a node or the cluster's. @throws {ProblemError} POD_UNREACHABLE */
  handler(service: string, node: string = this.nodes[0].name): Handler {
    return this.weirPods.handler(service, node);
  }

  async makePods(namespace: string, pods: readonly PodSpec[]): Promise<PodAt[]> {
    const { client } = this.options, made = pods.map((pod) => pod.name);
    await client.create(Namespace, namespaceObject(namespace));
    for (const account of accountObjects(namespace, pods)) await client.create(ServiceAccount, account);
    const { image: own } = this.weirPods.byNode.get(this.nodes[0].name)!;
    const options = { image: this.options.image ?? own, nodes: this.nodes, prober: this.prober };
    for (const pod of pods) await client.create(Pod, podObject(namespace, pod, options));
    const endMs = performance.now() + READY_MS_MAX;
    while (true) {
      const { items } = await client.list(Pod, { namespace });
      const late = items.map(whyNotReady).find((why) => why !== undefined);
      if (late === undefined && items.length === pods.length) {
        const all = new Map(items.map((item) => [item.metadata.name, podAt(item)]));
        const ready = made.map((name) => all.get(name)!);
        for (const pod of ready) if (pod.hostNetwork) this.#onNodes.set(pod.node, pod);
        return ready;
      }
      if (performance.now() > endMs) throw new TargetError(`${late} after ${READY_MS_MAX / 1000} s`);
      await delay(POLL_MS);
    }
  }

  async removePods(namespacePrefix: string): Promise<void> {
    const { client } = this.options, endMs = performance.now() + GONE_MS_MAX;
    this.#onNodes.clear();
    for (let isFirst = true;; isFirst = false) {
      const left: KubernetesObject[] = [];
      for await (
        const { items } of client.pages(Namespace, { labelSelector: MARK_SELECTOR, metadataOnly: true })
      ) {
        left.push(...items.filter(({ metadata: { name } }) => name.startsWith(namespacePrefix)));
      }
      if (left.length === 0) return;
      for (const { metadata: { name, uid } } of isFirst ? left : []) {
        await client.delete(Namespace, name, { uid });
      }
      if (performance.now() > endMs) {
        throw new TargetError(
          `Namespace ${left[0].metadata.name} is still there after ${GONE_MS_MAX / 1000} s`,
        );
      }
      await delay(POLL_MS);
    }
  }

  /** There is no outside. */
  routeOutside(): Promise<void> {
    return Promise.resolve();
  }

  start(place: Place, ...words: string[]): PlaceProgram {
    if (place === "outside") throw new TargetError("Nothing runs outside of a cluster");
    // A pod on the network of its node sends as the node.
    const pod = "pod" in place ? place.pod : this.#onNodes.get(place.node);
    if (pod === undefined) {
      throw new TargetError(`No pod is on the network of a node that scenarios send from`);
    }
    const { namespace, name } = pod;
    return new PodProgram(this.options.client, {
      namespace,
      pod: name,
      container: CONTAINER,
      command: [...this.prober, ...words],
    });
  }

  async logsSince(unixMs: number): Promise<{ node: string; line: string }[]> {
    const { client, namespace } = this.options, since = new Date(unixMs).toISOString();
    const pods = [this.planePod, ...this.nodes.map(({ name }) => this.weirPods.byNode.get(name)!)];
    const logs = await Promise.all(pods.map(async ({ name }) => ({
      node: name,
      text: await fetchPodLog(client, {
        namespace,
        pod: name,
        container: WEIR_CONTAINER,
        since,
        bytesMax: LOG_BYTES_MAX,
      }),
    })));
    return logs.flatMap(({ node, text }) => text.split("\n").map((line) => ({ node, line })));
  }

  /** Ends the programs in Weir's pods. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.weirPods[Symbol.asyncDispose]();
  }
}

const MARK_SELECTOR = Object.entries(MARK).map(([key, value]) => `${key}=${value}`).join(",");

/** Nodes that are ready, those that take any pod first. */
async function nodesOf(client: ApiClient): Promise<TargetNode[]> {
  const found: { isTainted: boolean; node: TargetNode }[] = [];
  for await (const { items } of client.pages(Node)) {
    for (const { metadata: { name }, spec, status } of items) {
      if (!isReady(status) || spec?.unschedulable === true) continue;
      const addresses: { type: string; address: string }[] = status?.addresses ?? [];
      const own = addresses.filter(({ type }) => type === "InternalIP").map(({ address }) => address);
      found.push({ isTainted: (spec?.taints ?? []).length > 0, node: { name, ...byFamily(own) } });
    }
  }
  found.sort((a, b) => Number(a.isTainted) - Number(b.isTainted) || (a.node.name < b.node.name ? -1 : 1));
  return found.map(({ node }) => node);
}
