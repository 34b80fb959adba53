/** Weir's own pods on a cluster, and their services, asked through the API server. @module */
import type { Handler } from "@weir/common/handler";
import { ProblemError } from "@weir/common/problem";
import { type ApiClient, type KubernetesObject, RESOURCES } from "@weir/kubernetes/api";
import { PodProgram, sentAlong } from "./pod_program.ts";
import { PodServices, RELAY, RELAY_FLAGS } from "./pod_services.ts";

/** Container of Weir's own pods. */
export const WEIR_CONTAINER = "weir";
/** Their instances' sockets. */
const PLANE_SOCKETS = "/run/weir/control-plane", NODE_SOCKETS = "/run/weir/host";
const BEGIN_MS_MAX = 45_000;
/** Services of the control plane. */
const PLANE_SERVICES = new Set([
  ...["certificate-authority", "identity-allocator", "policy-engine", "load-balancer", "flow-history"],
  ...["kubernetes", "relay", "ui"],
]);

/** One of Weir's own pods. */
export interface WeirPod {
  readonly name: string;
  readonly node: string;
  readonly image: string;
  readonly services: PodServices;
}

/** The pods that were ready when they were looked for; programs that ask begin in them when something is asked. */
export class WeirPods implements AsyncDisposable {
  private constructor(
    readonly namespace: string,
    /** One of the control plane; undefined: none is ready. */
    readonly plane: WeirPod | undefined,
    /** By their nodes. */
    readonly byNode: ReadonlyMap<string, WeirPod>,
  ) {}

  /** @param namespace where Weir is @throws {ApiServerError} */
  static async open(client: ApiClient, namespace: string): Promise<WeirPods> {
    const relay = await sentAlong(RELAY, RELAY_FLAGS);
    const weirPods = async (component: string, directory: string): Promise<WeirPod[]> => {
      const labelSelector = `app.kubernetes.io/name=weir,app.kubernetes.io/component=${component}`;
      const found: WeirPod[] = [];
      for await (const { items } of client.pages(RESOURCES.Pod, { namespace, labelSelector })) {
        for (const { metadata: { name, deletionTimestamp }, spec, status } of items) {
          if (deletionTimestamp !== undefined || !isReady(status)) continue;
          const program = { namespace, pod: name, container: WEIR_CONTAINER, command: relay };
          const services = new PodServices(
            () => new PodProgram(client, program),
            directory,
            `${namespace}/${name}`,
          );
          found.push({ name, node: spec.nodeName, image: spec.containers[0].image, services });
        }
      }
      return found;
    };
    const [[plane], onNodes] = await Promise.all([
      weirPods("control-plane", PLANE_SOCKETS),
      weirPods("node", NODE_SOCKETS),
    ]);
    return new WeirPods(namespace, plane, new Map(onNodes.map((pod) => [pod.node, pod])));
  }

  /** What asks a service, the cluster's or of a node. @throws {ProblemError} POD_UNREACHABLE: no pod of Weir is ready there */
  handler(service: string, node?: string): Handler {
    const isPlane = PLANE_SERVICES.has(service);
    const pod = isPlane ? this.plane : this.byNode.get(node ?? "");
    if (pod === undefined) {
      const where = isPlane ? `of the control plane in namespace ${this.namespace}` : `on ${node}`;
      throw new ProblemError("POD_UNREACHABLE", {
        status: 503,
        detail: `Cannot ask ${service}: no pod of Weir ${where} is ready`,
        action: "weir status --kubernetes says what keeps it",
      });
    }
    return (request) => pod.services.fetch(service, request);
  }

  /** Begins the programs in the control plane's pod and on these nodes, so that questions with short deadlines are answered. */
  async begin(nodes: readonly string[]): Promise<void> {
    const onNodes = nodes.map((node) => this.byNode.get(node));
    await Promise.all([this.plane, ...onNodes].map(async (pod) => {
      const request = new Request("http://localhost/livez", { signal: AbortSignal.timeout(BEGIN_MS_MAX) });
      // Who does not begin is found not to answer.
      await pod?.services.fetch("agent", request).then((answer) => answer.body?.cancel()).catch(() => {});
    }));
  }

  /** Ends the programs in the pods. */
  async [Symbol.asyncDispose](): Promise<void> {
    const pods = [...(this.plane === undefined ? [] : [this.plane]), ...this.byNode.values()];
    await Promise.all(pods.map(({ services }) => services.stop()));
  }
}

/** Whether a pod or node is ready. */
export function isReady(status: KubernetesObject["status"]): boolean {
  const conditions: { type: string; status: string }[] = status?.conditions ?? [];
  return conditions.some(({ type, status }) => type === "Ready" && status === "True");
}
