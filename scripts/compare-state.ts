/**
 * Compares what every node should have in its kernel with what is there: endpoints, policies, the ipcache.
 *
 *     deno run -A scripts/compare-state.ts [--lab NAME] [--node NAME]
 *
 * Prints one line per difference and exits with 1 when there is any. Copy it, change it.
 *
 * @module
 */
import { clientOf, CommandContext, type NodeTarget, processIo, takeGlobalFlags } from "@weir/cli";
import { DatapathEndpoint, DatapathPolicy, MapDump } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import { IpcacheEntry } from "@weir/proto/identity";
import { MapState } from "@weir/proto/policy";

/** Everything that is not as it should be, on every node that the context means. */
export async function differences(context: CommandContext): Promise<string[]> {
  const engine = clientOf(context, "policy-engine");
  const allocator = clientOf(context, "identity-allocator");
  try {
    const states = new Map(
      (await engine.collection("mapstates", MapState).list()).items.map((state) => [state.identity, state]),
    );
    const ipcache = (await allocator.collection("ipcache", IpcacheEntry).list()).items;
    const found = await Promise.all(
      context.nodes().map(async (target) =>
        (await compareNode(context, target, states, ipcache)).map((line) => `${target.node}: ${line}`)
      ),
    );
    return found.flat();
  } finally {
    engine.close();
    allocator.close();
  }
}

async function compareNode(
  context: CommandContext,
  target: NodeTarget,
  states: ReadonlyMap<number, MapState>,
  ipcache: readonly IpcacheEntry[],
): Promise<string[]> {
  const manager = clientOf(context, "endpoint-manager", target);
  const datapath = clientOf(context, "datapath", target);
  const found: string[] = [];
  try {
    const endpoints = (await manager.collection("endpoints", Endpoint).list()).items;
    const realized = new Map(
      (await datapath.collection("endpoints", DatapathEndpoint).list()).items.map((
        item,
      ) => [item.name, item]),
    );
    const policies = new Map(
      (await datapath.collection("policies", DatapathPolicy).list()).items.map((item) => [item.name, item]),
    );
    for (const { name, status } of endpoints) {
      if (status?.state !== "READY") {
        found.push(`endpoint ${name} is ${status?.state}: ${status?.error?.error || "no error"}`);
      }
      const kernel = realized.get(name);
      if (kernel?.status === undefined || !kernel.status.ready) {
        found.push(
          `endpoint ${name} is not in the kernel: ${
            kernel?.status?.error?.error || "the datapath does not know it"
          }`,
        );
        continue;
      }
      if (kernel.status.identity !== status?.identity) {
        found.push(
          `endpoint ${name} has identity ${kernel.status.identity} in the kernel, should have ${status?.identity}`,
        );
      }
      const wanted = states.get(status?.identity ?? 0);
      if (wanted === undefined) {
        found.push(`endpoint ${name}: the policy engine has no map state for identity ${status?.identity}`);
        continue;
      }
      if ((status?.policyRevision ?? 0) < wanted.policyRevision) {
        found.push(
          `endpoint ${name} has policy revision ${status?.policyRevision}, should have ${wanted.policyRevision}`,
        );
      }
      const policy = policies.get(status?.policy ?? "");
      if (policy === undefined) {
        found.push(`endpoint ${name}: its policy "${status?.policy}" is not in the datapath`);
      } else if (policy.status?.error) found.push(`policy ${policy.name}: ${policy.status.error.error}`);
      else if ((policy.status?.policyRevision ?? 0) < policy.policyRevision) {
        found.push(
          `policy ${policy.name} has revision ${policy.status?.policyRevision} in the kernel, should have ${policy.policyRevision}`,
        );
      }
    }
    for (const name of realized.keys()) {
      if (!endpoints.some((endpoint) => endpoint.name === name)) {
        found.push(`endpoint ${name} is in the datapath, and nobody wants it`);
      }
    }
    const dump = await datapath.call("/v1/maps/ipcache", { method: "GET", response: MapDump });
    const kernel = new Map(dump.rows.map(({ fields }) => [fields.prefix, Number(fields.identity)]));
    for (const { prefix, identity } of ipcache) {
      const there = kernel.get(prefix);
      if (there !== identity) {
        found.push(`ipcache ${prefix} is ${there ?? "missing"} in the kernel, should be ${identity}`);
      }
    }
  } finally {
    manager.close();
    datapath.close();
  }
  return found;
}

if (import.meta.main) {
  const context = new CommandContext(processIo(), takeGlobalFlags(Deno.args).flags);
  const found = await differences(context);
  for (const line of found) console.log(line);
  const nodes = context.nodes().map((target) => target.node).join(", ");
  console.log(found.length === 0 ? `${nodes}: the kernel is as it should be` : `${found.length} differences`);
  Deno.exit(found.length === 0 ? 0 : 1);
}
