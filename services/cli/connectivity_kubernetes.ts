/** `weir connectivity test` on a cluster of Kubernetes, whose services are asked through the API server. @module */
import { holdRun, KubernetesTarget } from "@weir/connectivity";
import { type ParsedArgs, text } from "./args.ts";
import { ClusterContext } from "./cluster_context.ts";
import type { CommandContext, CommandIo } from "./context.ts";
import { openCluster } from "./install/access.ts";

/** A cluster that is tested. */
export interface TestedCluster extends AsyncDisposable {
  readonly target: KubernetesTarget;
  /** Of `weir explain`. */
  context(io: CommandIo): CommandContext;
  /** Held while scenarios run. @throws {TargetError} another run holds it */
  hold(): Promise<AsyncDisposable>;
}

/** Opens the cluster that the flags mean. @throws {UsageError} they mean none @throws {ApiServerError} @throws {TargetError} */
export async function openTestedCluster(
  context: CommandContext,
  hint: string,
  parsed: ParsedArgs,
): Promise<TestedCluster> {
  const cluster = openCluster(context, hint, parsed), { client, namespace } = cluster;
  try {
    const target = await KubernetesTarget.open({ client, namespace, image: text(parsed, "image") });
    return {
      target,
      context: (io) => new ClusterContext(io, target.weirPods, target.nodes.map(({ name }) => name)),
      hold: () => holdRun(client, namespace),
      async [Symbol.asyncDispose]() {
        await target[Symbol.asyncDispose]();
        cluster[Symbol.dispose]();
      },
    };
  } catch (error) {
    cluster[Symbol.dispose]();
    throw error;
  }
}
