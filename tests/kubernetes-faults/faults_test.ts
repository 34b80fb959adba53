/**
 * Faults of a real cluster, one after another, under traffic that must not stop and traffic that must stay out; after each
 * everything agrees again. Slow is not lost: many processes share this machine.
 * @module
 */
import assert from "node:assert/strict";
import { ok, waitFor } from "../kubernetes/cluster/process.ts";
import { type Counted, nowS, said, Traffic } from "../kubernetes/faults/traffic.ts";
import { OTHER_TAG, WeirCluster } from "../kubernetes/faults/weir.ts";
import { WEIR_VERSION } from "../../services/common/version.ts";
import { agnhostPod, list, missing, testCluster } from "../kubernetes/test_cluster.ts";

/** How long the API server is away, seconds: `WEIR_API_SERVER_AWAY_S=600` for ten minutes. */
const AWAY_S = Number(Deno.env.get("WEIR_API_SERVER_AWAY_S") ?? 60);

Deno.test(
  { name: "Weir goes on through the faults of a cluster", ignore: missing !== undefined },
  async (t) => {
    await using cluster = await testCluster();
    const weir = new WeirCluster(cluster);
    await weir.importImages({ other: true });
    await weir.weir("install", "--wait", "--timeout=540");
    await cluster.kubectl(["rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=300s"]);
    const traffic = await Traffic.start(cluster);
    await weir.converged();

    /** Runs a fault under traffic, waits until everything agrees and traffic flows, and judges what became of it. */
    const step = (
      name: string,
      fault: () => Promise<void>,
      mayLose: (counted: Counted) => boolean = () => false,
    ) =>
      t.step(name, async () => {
        const sinceS = nowS();
        await fault();
        await weir.converged();
        await traffic.flows(nowS());
        const counted = traffic.counted(sinceS), line = `${name}: ${said(counted)}`;
        console.log(`  ${line}`);
        assert.equal(counted.denied.through, 0, line);
        assert.ok(counted.short.lost + counted.long.lost === 0 || mayLose(counted), line);
      });

    await step(`the API server is away for ${AWAY_S} s`, async () => {
      await cluster.stopApiServer();
      await new Promise((resolve) => setTimeout(resolve, AWAY_S * 1000));
      await cluster.startApiServer();
    });

    await step("agents are killed while the API server is away", async () => {
      await cluster.stopApiServer();
      for (const node of cluster.nodes.values()) await killAgent((words) => ok(node.words(words)));
      await new Promise((resolve) => setTimeout(resolve, 20_000));
      await cluster.startApiServer();
    });

    await step("the API server's store is put back to an older copy", async () => {
      const deny = (name: string) => ({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name },
        spec: { podSelector: { matchLabels: { app: name } }, policyTypes: ["Ingress"] },
      });
      await cluster.kubectl(["apply", "-f", "-"], list(deny("kept"), agnhostPod("kept", 1)));
      await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=120s", "pod/kept"]);
      await cluster.keepStore();
      await cluster.kubectl(["delete", "networkpolicy/kept", "pod/kept"]);
      await cluster.kubectl(["apply", "-f", "-"], list(deny("later"), agnhostPod("later", 2)));
      await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=120s", "pod/later"]);
      await cluster.restoreStore();
      await waitFor("the pod to be there again", async () => {
        const state = ["get", "pod", "kept", "-o", "jsonpath={.status.phase}"];
        return await cluster.kubectl(state) === "Running";
      }, { seconds: 300, everyMs: 1000 });
      assert.deepEqual(
        (await weir.list<{ metadata: { name: string } }>("networkpolicies")).map(({ metadata }) =>
          metadata.name
        ),
        ["kept", "server"],
      );
    });

    for (const tag of [OTHER_TAG, WEIR_VERSION]) {
      await step(`everything is upgraded to ${tag}`, async () => {
        await weir.weir("upgrade", "--wait", "--timeout=540", "--set", `image.tag=${tag}`);
        const images = "jsonpath={.items[*].spec.containers[*].image}";
        const used = (await cluster.kubectl(["get", "pods", "-n", "weir-system", "-o", images])).split(" ");
        assert.ok(used.length === 3 && used.every((image) => image.endsWith(`:${tag}`)), used.join(" "));
      });
    }

    await step("every agent is killed", async () => {
      for (const node of cluster.nodes.values()) await killAgent((words) => ok(node.words(words)));
      await new Promise((resolve) => setTimeout(resolve, 5000));
    });

    // What runs on it is gone for a while: requests are lost, and nothing else is.
    await step("the server's node is rebooted", async () => {
      await cluster.reboot(1);
      await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=300s", "pod/server"]);
    }, () => true);

    for (
      const where of [
        "on another node without its database",
        "where it was, with a database that is older by now",
      ]
    ) {
      await step(`the control plane comes up ${where}`, async () => {
        const path = "/spec/template/spec/nodeSelector/kubernetes.io~1hostname";
        const place = "jsonpath={.spec.template.spec.nodeSelector.kubernetes\\.io/hostname}";
        const deployment = ["-n", "weir-system", "deployment/weir-control-plane"];
        const before = await cluster.kubectl(["get", ...deployment, "-o", place]);
        const value = before === "node-1" ? "node-2" : "node-1";
        const patch = JSON.stringify([{ op: "replace", path, value }]);
        await cluster.kubectl(["patch", ...deployment, "--type=json", "-p", patch]);
        await cluster.kubectl(["rollout", "status", ...deployment, "--timeout=300s"]);
        // Nodes hear of it by a ConfigMap, about a minute later.
        await waitFor("the nodes to have followed", async () => {
          const authority = "jsonpath={.data.addresses}";
          const addresses = await cluster.kubectl([
            "get",
            "configmap",
            "weir-cluster",
            "-n",
            "weir-system",
            "-o",
            authority,
          ]);
          return addresses === `172.30.0.1${value.at(-1)}:7440`;
        }, { seconds: 300, everyMs: 1000 });
        await cluster.kubectl(["apply", "-f", "-"], list(agnhostPod("afterwards", 2)));
        await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=300s", "pod/afterwards"]);
        await cluster.kubectl(["delete", "pod", "afterwards"]);
      });
    }
  },
);

/** Kills the agent's first process on a node: the kubelet starts its container anew. */
async function killAgent(run: (words: string[]) => Promise<string>): Promise<void> {
  const find = 'for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline 2>/dev/null | ' +
    'grep -q "^/usr/lib/weir/bin/deno .*agent/main.ts --kubernetes-join" && echo ${p#/proc/}; done; true';
  const pids = (await run(["sh", "-c", find])).trim().split("\n").filter((pid) => pid !== "");
  assert.ok(pids.length > 0, "no agent runs");
  for (const pid of pids) await run(["kill", "-KILL", pid]);
}
