/**
 * The networks of nodes' pods, and the control plane's way there: an API server dials pods (proxies, webhooks), whatever brings
 * their network.
 * @module
 */
import { kubeconfig } from "./certificates.ts";
import type { Namespaces } from "./namespaces.ts";
import { type ClusterOptions, nodeAddresses, nodeName } from "./options.ts";
import { ok, waitFor } from "./process.ts";

/** The networks that the controller manager has given a node, one of each family; they are not in the order of nodes. */
export async function podCidrs(cluster: Namespaces, directory: string, index: number): Promise<string[]> {
  let found: string[] = [];
  await waitFor(`a pod CIDR of ${nodeName(index)}`, async () => {
    const get = ["get", "node", nodeName(index), "-o", "jsonpath={.spec.podCIDRs[*]}"];
    const said = await ok(cluster.words(["kubectl", "--kubeconfig", kubeconfig(directory, "admin"), ...get]));
    found = said.split(" ").filter((cidr) => cidr !== "");
    return found.length > 0;
  });
  return found;
}

/** Gives places a route to a node's pods. */
export async function routeToPods(
  places: Iterable<Namespaces>,
  index: number,
  subnets: readonly string[],
  options: ClusterOptions,
): Promise<void> {
  for (const [at, subnet] of subnets.entries()) {
    const route = ["ip", "route", "replace", subnet, "via", nodeAddresses(index, options)[at]];
    for (const place of places) await ok(place.words(route));
  }
}
