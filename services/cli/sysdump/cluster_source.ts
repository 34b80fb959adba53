/** A cluster of Kubernetes as a sysdump is made of it. @module */
import { WeirPods } from "@weir/connectivity/weir-pods";
import { type ApiClient, RESOURCES } from "@weir/kubernetes/api";
import type { ParsedArgs } from "../args.ts";
import { ClusterContext } from "../cluster_context.ts";
import type { CommandContext } from "../context.ts";
import { openCluster } from "../install/access.ts";
import { type AnyPod, anyPods, clusterFacts, nodeTexts } from "./cluster_facts.ts";
import type { DumpSource } from "./collect.ts";

const NODES_MAX = 100;

/** A cluster, its services and what else is asked of it. */
export interface DumpedCluster extends AsyncDisposable {
  /** For the file: the host of its API server. */
  readonly name: string;
  readonly context: ClusterContext;
  readonly source: DumpSource;
}

/** Opens it. Of a cluster on which nothing of Weir is ready there are still objects, logs and events. @throws {UsageError} @throws {ApiServerError} */
export async function openDumpedCluster(
  context: CommandContext,
  hint: string,
  parsed: ParsedArgs,
): Promise<DumpedCluster> {
  const cluster = openCluster(context, hint, parsed), { client, namespace } = cluster;
  try {
    const [pods, any] = await Promise.all([
      WeirPods.open(client, namespace),
      anyPods(client, namespace),
    ]);
    const names = [...new Set(any.filter(isOnNode).map(({ node }) => node))].sort();
    const known = names.length > 0 ? names : await nodeNames(client);
    const asked = new ClusterContext(context.io, pods, known, context.flags.node);
    const nodes = new Set(asked.nodes().map(({ node }) => node));
    const logged = any.filter((pod) => !isOnNode(pod) || nodes.has(pod.node));
    const own = [...pods.byNode].filter(([name]) => nodes.has(name));
    await pods.begin([...nodes]);
    return {
      name: new URL(client.server).hostname,
      context: asked,
      source: {
        of: { kubernetes: client.server },
        facts: clusterFacts(client, { namespace, plane: pods.plane, logged }),
        groups: own.map(([node, pod]) => ({
          file: `nodes/${node}/network`,
          gather: (msMax: number) => nodeTexts(client, { namespace, node, pod: pod.name, msMax }),
        })),
        environments: () => Promise.resolve([Deno.env.toObject()]),
      },
      async [Symbol.asyncDispose]() {
        await pods[Symbol.asyncDispose]();
        cluster[Symbol.dispose]();
      },
    };
  } catch (error) {
    cluster[Symbol.dispose]();
    throw error;
  }
}

const isOnNode = ({ component, node }: AnyPod) => component === "node" && node !== "";

/** Nodes of a cluster on which no pod of Weir is. */
async function nodeNames(client: ApiClient): Promise<string[]> {
  const { items } = await client.list(RESOURCES.Node, { limit: NODES_MAX });
  return items.map(({ metadata }) => metadata.name).sort();
}
