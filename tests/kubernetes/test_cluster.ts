/** Clusters for tests, where they can be. @module */
import { Cluster, removeCluster } from "./cluster/cluster.ts";
import { Cache, exists } from "./cluster/layout.ts";
import type { ClusterOptions } from "./cluster/options.ts";
import { IMAGES } from "./parts/images.ts";

/** What clusters of this run are made of. */
export const cache: Cache = new Cache();

/** Why no cluster can be made here; undefined where one can. */
export const missing: string | undefined = (() => {
  if (Deno.uid() !== 0) return "not root";
  // The last thing that is made: without it something before it is missing.
  if (!exists(cache.store)) {
    return "no programs and images: tests/kubernetes/build makes them (it needs Go and the network once)";
  }
  return undefined;
})();
if (missing !== undefined) console.log(`SKIP tests/kubernetes: ${missing}`);

/** The name of this run's cluster. Only one at a time has it. */
export const NAME = `test-${Deno.pid}`;

/** A cluster for one test, which disposes of it: two nodes, unless it is told otherwise. One that fails to come up is taken down. */
export async function testCluster(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
  try {
    const all = { name: NAME, nodes: 2, cni: "none" as const, audit: false, dualStack: false, ...options };
    return await Cluster.up(all, cache, (text) => console.log(`  ${text}`));
  } catch (error) {
    await removeCluster(options.name ?? NAME, cache);
    throw error;
  }
}

/** A pod on a node that runs agnhost, ready when it answers on port 8080. */
export function agnhostPod(
  name: string,
  node: number,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  const healthy = { httpGet: { path: "/healthz", port: 8080 }, periodSeconds: 1 };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: name } },
    spec: {
      nodeName: `node-${node}`,
      terminationGracePeriodSeconds: 1,
      containers: [{
        name: "agnhost",
        image: IMAGES.agnhost,
        args: ["netexec", "--http-port=8080"],
        ports: [{ containerPort: 8080, name: "http" }],
        readinessProbe: healthy,
        livenessProbe: { ...healthy, periodSeconds: 2, failureThreshold: 5 },
        ...more,
      }],
    },
  };
}

/** A manifest of several objects, as kubectl takes it. */
export function list(...items: Record<string, unknown>[]): string {
  return JSON.stringify({ apiVersion: "v1", kind: "List", items });
}
