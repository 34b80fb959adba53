/** A client of the Kubernetes that a command means. @module */
import { ApiClient, kubeconfigAccess, kubeconfigPath } from "@weir/kubernetes/api";
import { type ParsedArgs, text } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { NAMESPACE } from "./objects.ts";

/** A cluster that was named, and where Weir is in it. */
export interface NamedCluster extends Disposable {
  readonly client: ApiClient;
  readonly namespace: string;
}

/**
 * Opens the cluster.
 * @param parsed of a command whose `--namespace` says where Weir is
 * @throws {ProblemError} KUBECONFIG_INVALID @throws {UsageError} it names no cluster
 */
export function openCluster(context: CommandContext, hint: string, parsed?: ParsedArgs): NamedCluster {
  const named = context.flags.kubernetes ?? {}, { lab, server } = context.flags;
  if ((lab ?? server) !== undefined) {
    throw new UsageError("A cluster of Kubernetes is meant: it takes no --lab and no --server", hint);
  }
  const path = named.kubeconfig ?? kubeconfigPath((name) => Deno.env.get(name));
  if (path === undefined) {
    throw new UsageError(
      "Cannot tell which cluster is meant: say --kubeconfig FILE, or set KUBECONFIG",
      hint,
    );
  }
  const own = parsed === undefined ? undefined : text(parsed, "namespace");
  const namespace = own ?? named.namespace ?? NAMESPACE;
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(namespace)) {
    throw new UsageError(`Cannot take namespace "${namespace}": expected a name`, hint);
  }
  const client = new ApiClient(kubeconfigAccess(path, { context: named.context }));
  return { client, namespace, [Symbol.dispose]: () => client.close() };
}
