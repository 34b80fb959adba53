/**
 * A network for pods from the reference plugins, to see that a cluster itself works and to compare with: ptp, host-local and
 * portmap on each node, a route for each node's pods on the others, and kube-proxy. Nothing enforces policies.
 * @module
 */
import type { Namespaces } from "./namespaces.ts";
import { startKubeProxy } from "./node.ts";
import { type ClusterOptions, nodeName } from "./options.ts";
import { podCidrs, routeToPods } from "./pod_routes.ts";

export async function startReferenceCni(
  cluster: Namespaces,
  nodes: ReadonlyMap<number, Namespaces>,
  directory: string,
  options: ClusterOptions,
): Promise<void> {
  for (const [index, node] of nodes) {
    const subnets = await podCidrs(cluster, directory, index);
    const others = [...nodes].filter(([other]) => other !== index).map(([, other]) => other);
    await routeToPods(others, index, subnets, options);
    const file = `${directory}/${nodeName(index)}/etc/cni/net.d/10-reference.conflist`;
    await Deno.writeTextFile(`${file}.new`, JSON.stringify(configuration(subnets)));
    await Deno.rename(`${file}.new`, file);
    await startKubeProxy(index, node, directory, options);
  }
}

function configuration(subnets: readonly string[]): Record<string, unknown> {
  return {
    cniVersion: "1.0.0",
    name: "reference",
    plugins: [
      {
        type: "ptp",
        ipam: {
          type: "host-local",
          ranges: subnets.map((subnet) => [{ subnet }]),
          routes: subnets.map((subnet) => ({ dst: subnet.includes(":") ? "::/0" : "0.0.0.0/0" })),
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}
