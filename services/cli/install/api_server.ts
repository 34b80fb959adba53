/**
 * Where the control plane finds the API server. Its service address is served by kube-proxy, or, where there is none, by Weir
 * itself: then Weir must begin at an address that needs nobody.
 *
 * @module
 */
import { type ApiClient, RESOURCES } from "@weir/kubernetes/api";
import { KINDS } from "./kinds.ts";

/** URL of the API server for Weir's control plane; "" where kube-proxy serves its service address. */
export async function findApiServer(client: ApiClient): Promise<string> {
  const proxies = await client.list(KINDS.DaemonSet, {
    namespace: "kube-system",
    labelSelector: "k8s-app=kube-proxy",
  });
  if (proxies.items.some(({ status }) => (status?.numberReady ?? 0) > 0)) return "";
  const slices = await client.list(RESOURCES.EndpointSlice, {
    namespace: "default",
    labelSelector: "kubernetes.io/service-name=kubernetes",
  });
  for (const slice of slices.items) {
    const { endpoints = [], ports = [] } = slice as unknown as {
      endpoints?: { addresses: string[] }[];
      ports?: { port: number }[];
    };
    const [address] = endpoints.flatMap(({ addresses }) => addresses);
    if (address === undefined || ports.length === 0) continue;
    return `https://${address.includes(":") ? `[${address}]` : address}:${ports[0].port}`;
  }
  return "";
}
