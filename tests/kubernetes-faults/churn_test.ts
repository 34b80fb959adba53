/** Pods that come and go leave nothing on any node, nor at the API server: WEIR_CHURN_PODS=200. @module */
import assert from "node:assert/strict";
import { ok, waitFor } from "../kubernetes/cluster/process.ts";
import { WeirCluster } from "../kubernetes/faults/weir.ts";
import { missing, testCluster } from "../kubernetes/test_cluster.ts";
import { IMAGES } from "../kubernetes/parts/images.ts";

const PODS = Number(Deno.env.get("WEIR_CHURN_PODS") ?? 200);
/** At once, on two nodes. */
const BATCH = 40;

Deno.test(
  { name: `${PODS} pods come and go, and leave nothing`, ignore: missing !== undefined },
  async () => {
    await using cluster = await testCluster();
    const weir = new WeirCluster(cluster);
    await weir.importImages();
    await weir.weir("install", "--wait", "--timeout=540");
    await cluster.kubectl(["rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=300s"]);
    await cluster.kubectl(["create", "deployment", "churn", `--image=${IMAGES.pause}`, "--replicas=0"]);
    const churn = async (pods: number) => {
      await cluster.kubectl(["scale", "deployment", "churn", `--replicas=${pods}`]);
      await cluster.kubectl(["rollout", "status", "deployment/churn", "--timeout=600s"]);
      await cluster.kubectl(["scale", "deployment", "churn", "--replicas=0"]);
      await waitFor("the pods to go", async () => {
        return await cluster.kubectl(["get", "pods", "-l", "app=churn", "-o", "name"]) === "";
      }, { seconds: 300, everyMs: 1000 });
    };
    // The first ones leave what stays: an identity, counters, rows of conntrack's other side.
    await churn(4);
    await weir.converged();
    const before = await traces(weir);
    for (let made = 0; made < PODS; made += BATCH) await churn(Math.min(BATCH, PODS - made));
    await weir.converged();
    await waitFor("nothing to be left", async () => {
      assert.deepEqual(await traces(weir), before);
      return true;
    }, { seconds: 300, everyMs: 1000 });
    console.log(`  ${JSON.stringify(before)}`);
  },
);

/** How much there is of everything that a pod has, by node, and at the API server. */
async function traces(weir: WeirCluster): Promise<Record<string, unknown>> {
  const { cluster } = weir, found: Record<string, unknown> = {};
  for (const [index, node] of cluster.nodes) {
    const count = async (command: string) => Number(await ok(node.words(["sh", "-c", `${command} | wc -l`])));
    const said = async (...words: string[]) =>
      JSON.parse(await weir.inside("node", index, ...words, "list", "-o", "json"));
    const entries = async (map: string) =>
      (await said("bpf", map) as { entries: number }[]).reduce((sum, { entries }) => sum + entries, 0);
    found[`node-${index}`] = {
      endpoints: (await said("endpoint") as unknown[]).length,
      "endpoints in the kernel": await entries("endpoint"),
      "policy entries in the kernel": await entries("policy"),
      "ipcache in the kernel": await entries("ipcache"),
      devices: await count("ip -o link"),
      routes: await count("ip route show table all"),
      namespaces: await count("ls /run/netns"),
      pins: await count("find /sys/fs/bpf/weir"),
      "CNI results": await count("find /var/lib/cni -type f"),
      "deletions that wait": await count("find /var/lib/weir/host/cni-deletions -type f"),
    };
  }
  const sliced = (await weir.list<{ endpoints: unknown[] }>("ciliumendpointslices"))
    .reduce((sum, { endpoints }) => sum + endpoints.length, 0);
  found.cluster = {
    "CiliumIdentity": (await weir.list("ciliumidentities")).length,
    "CiliumEndpointSlice": sliced,
  };
  return found;
}
