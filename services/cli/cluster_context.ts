/** A cluster of Kubernetes as commands see it: its services are asked in Weir's own pods, through the API server. @module */
import { WeirPods } from "@weir/connectivity/weir-pods";
import type { Handler } from "@weir/common/handler";
import { ProblemError } from "@weir/common/problem";
import { RESOURCES } from "@weir/kubernetes/api";
import { CommandContext, type CommandIo, type NodeTarget, type ServiceName, UsageError } from "./context.ts";
import { type NamedCluster, openCluster } from "./install/access.ts";
import type { LabRecord } from "./run_directory.ts";

/** Nodes that are asked at once: a program begins in the pod of each. */
const NODES_MAX = 100;
/** Questions that the services take by POST, and that change nothing. */
const QUESTIONS = /^\/v1\/(explain|policies:wait)$/;

/** What a command sees whose services are those of a cluster. It asks, and changes nothing: objects are the API server's. */
export class ClusterContext extends CommandContext implements AsyncDisposable {
  /** The first question begins a program in a pod. */
  override readonly answerMsMax = 45_000;
  override readonly statusMsMax = 10_000;

  constructor(
    io: CommandIo,
    readonly pods: WeirPods,
    /** All nodes of the cluster that Weir is on. */
    readonly nodeNames: readonly string[],
    readonly onlyNode?: string,
  ) {
    super(io, {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pods[Symbol.asyncDispose]();
  }

  override lab(): LabRecord | undefined {
    return undefined;
  }

  override nodes(): NodeTarget[] {
    const names = this.onlyNode === undefined
      ? this.nodeNames
      : this.nodeNames.filter((name) => name === this.onlyNode);
    if (names.length === 0) {
      throw new UsageError(
        this.onlyNode === undefined
          ? `No pod of Weir runs on a node (namespace ${this.pods.namespace}): weir status --kubernetes`
          : `Cannot find node "${this.onlyNode}": Weir is on ${this.nodeNames.join(", ") || "none"}`,
      );
    }
    if (names.length > NODES_MAX) {
      throw new UsageError(
        `The cluster has ${names.length} nodes, and at most ${NODES_MAX} are asked one by one: say --node NAME, or ask for the flows of all with weir hubble port-forward`,
      );
    }
    return names.map((node) => ({ node, instance: node, directory: "" }));
  }

  override address(service: ServiceName): string {
    return `cluster:${service}`;
  }

  override handler(service: ServiceName, target?: NodeTarget): Handler {
    return (request) => guarded(this.pods.handler(service, target?.node ?? this.node().node))(request);
  }
}

/** Lets questions through. */
function guarded(handler: Handler): Handler {
  return async (request) => {
    const { method, url } = request;
    if (method === "GET" || method === "HEAD" || QUESTIONS.test(new URL(url).pathname)) {
      return await handler(request);
    }
    throw new ProblemError("READ_ONLY", {
      status: 405,
      detail:
        "Cannot change a cluster of Kubernetes by Weir's own services: its objects are the API server's",
      action: "Use kubectl apply and kubectl delete",
    });
  };
}

/** The services of a cluster. Dispose of it. @throws {ApiServerError} @throws {Error} nothing of Weir is ready there */
export async function clusterContext(
  { io, flags }: CommandContext,
  { client, namespace }: NamedCluster,
): Promise<ClusterContext> {
  const pods = await WeirPods.open(client, namespace), names = [...pods.byNode.keys()].sort();
  if (pods.plane === undefined && names.length === 0) {
    const { items } = await client.list(RESOURCES.Pod, { namespace, limit: 1 });
    const why = items.length === 0 ? "nothing runs there" : "no pod is ready";
    throw new Error(
      `Cannot find Weir in namespace ${namespace} of ${client.server}: ${why}; see weir status --kubernetes, or say --weir-namespace NAME`,
    );
  }
  return new ClusterContext(io, pods, names, flags.node);
}

/** Runs a command on the services of the cluster that the flags mean. @throws {UsageError} @throws {ApiServerError} */
export async function onCluster(
  context: CommandContext,
  hint: string,
  run: (cluster: ClusterContext) => Promise<number>,
): Promise<number> {
  using cluster = openCluster(context, hint);
  await using asked = await clusterContext(context, cluster);
  return await run(asked);
}
