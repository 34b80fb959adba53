/**
 * The clusters that tests of Weir on Kubernetes stand on, by themselves: with the reference CNI everything works, so that what
 * does not work with Weir's is Weir's; and nothing of a cluster is left when it is down.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { hierarchies } from "./cluster/cgroups.ts";
import { type Cluster, removeCluster } from "./cluster/cluster.ts";
import { Cache, exists } from "./cluster/layout.ts";
import { ok, run } from "./cluster/process.ts";
import { runSpecs } from "./upstream/specs.ts";
import { agnhostPod, cache, list, missing, NAME, testCluster } from "./test_cluster.ts";

const ignore = missing !== undefined;

Deno.test(
  { name: "a cluster of two nodes with the reference CNI works, and leaves nothing", ignore },
  async (t) => {
    const before = await traces();
    {
      await using cluster = await testCluster({ cni: "reference" });
      const kubectl = (...args: string[]) => cluster.kubectl(args);
      const ready = (...pods: string[]) =>
        kubectl("wait", "--for=condition=Ready", "--timeout=120s", ...pods.map((pod) => `pod/${pod}`));
      const service = {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "web" },
        spec: { selector: { app: "one" }, ports: [{ port: 80, targetPort: "http" }] },
      };
      const nobody = { httpGet: { path: "/", port: 9 }, periodSeconds: 1, failureThreshold: 1 };
      const pods = [
        agnhostPod("one", 1),
        agnhostPod("two", 2),
        agnhostPod("not-ready", 1, { readinessProbe: nobody }),
        agnhostPod("not-alive", 2, { livenessProbe: nobody }),
      ];
      await cluster.kubectl(["apply", "-f", "-"], list(service, ...pods));

      await t.step("both nodes are ready", async () => {
        assert.equal(await cluster.nodesWhere(" Ready "), 2);
      });
      await t.step("readiness probes reach pods", () => ready("one", "two").then(() => {}));
      await t.step("a pod reaches a pod on the other node", async () => {
        const address = (await kubectl("get", "pod", "two", "-o", "jsonpath={.status.podIP}")).trim();
        assert.equal(await curl(cluster, "one", `${address}:8080/hostname`), "two");
      });
      await t.step("logs have what the pod said", async () => {
        assert.match(await kubectl("logs", "two"), /GET \/hostname/);
      });
      await t.step("CoreDNS answers, and kube-proxy leads to the service", async () => {
        await kubectl("rollout", "status", "--namespace=kube-system", "deployment/coredns", "--timeout=120s");
        await until(
          "the service is reached by its name",
          async () => await curl(cluster, "two", "web.default.svc.cluster.local/hostname") === "one",
        );
      });
      await t.step("a pod whose liveness probe fails is started again", () =>
        until("a restart", async () => {
          const restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
          return Number(await kubectl("get", "pod", "not-alive", "-o", restarts)) > 0;
        }));
      await t.step("a pod whose readiness probe fails runs and is not ready", async () => {
        const { phase, conditions } = JSON.parse(
          await kubectl("get", "pod", "not-ready", "-o", "jsonpath={.status}"),
        );
        assert.equal(phase, "Running");
        assert.equal(
          conditions.find(({ type }: { type: string }) => type === "Ready").status,
          "False",
        );
      });
      await t.step("upstream's specs run, and say what became of them", async () => {
        const results = await runSpecs(cluster, ["Services should check NodePort out-of-range"]);
        assert.deepEqual(results.map(({ name, state }) => [state, name]), [
          ["passed", "[sig-network] Services should check NodePort out-of-range"],
        ]);
      });
      await t.step("a node has mounts of its own", async () => {
        const at = await cluster.node(1).words(["sh", "-c", "ls /etc/cni/net.d; stat -f -c %T /sys/fs/bpf"]);
        const { out } = await run(at);
        assert.equal(out, "10-reference.conflist\nbpf_fs\n");
      });
    }
    await nothingIsLeft(before);
  },
);

const script = new URL("../../scripts/kubernetes-cluster", import.meta.url).pathname;

Deno.test({ name: "a cluster whose start was killed halfway leaves nothing", ignore }, async () => {
  const before = await traces();
  const args = ["up", "--name", NAME, "--cache", cache.directory];
  const starting = new Deno.Command(script, { args, stdout: "null", stderr: "null" }).spawn();
  try {
    await until("the first node to be made", () => exists(`${cache.cluster(NAME)}/node-1/ready`), 20);
  } finally {
    starting.kill("SIGKILL");
    await starting.status;
    assert.notDeepEqual(await traces(), before);
    await removeCluster(NAME, cache);
  }
  await nothingIsLeft(before);
});

Deno.test(
  { name: "a cluster that does not come up says why at once, and leaves nothing", ignore },
  async () => {
    const before = await traces();
    // On the same file system, so that its files are links.
    const broken = `${cache.directory}/${NAME}`;
    await Deno.mkdir(broken);
    try {
      const parts = [cache.bin, cache.packages, cache.images, cache.store, `${cache.directory}/pause.stamp`];
      await ok(["cp", "--archive", "--link", ...parts, broken]);
      await Deno.remove(`${broken}/bin/kube`);
      await Deno.writeTextFile(`${broken}/bin/kube`, "#!/bin/sh\necho this is a broken $1\nexit 1\n", {
        mode: 0o755,
      });
      const { code, err } = await run([script, "up", "--name", NAME, "--cache", broken], { seconds: 600 });
      assert.equal(code, 1);
      assert.match(err, /kube-apiserver has ended:\nthis is a broken kube-apiserver/);
      assert.match(err, /taking it down/);
    } finally {
      await removeCluster(NAME, new Cache(broken));
      await ok(["rm", "-rf", broken]);
    }
    await nothingIsLeft(before);
  },
);

/** What a pod gets for a URL. */
async function curl(cluster: Cluster, pod: string, url: string): Promise<string> {
  return await cluster.kubectl(["exec", pod, "--", "curl", "--silent", "--fail", "--max-time", "10", url]);
}

/** Waits for the last process to be gone: the kernel says that a control group is empty while its processes are still ending. */
async function nothingIsLeft(before: Record<string, unknown>): Promise<void> {
  await until("nothing to be left", async () => {
    assert.deepEqual(await traces(), before);
    return true;
  });
}

/** What of this run's cluster, or of mounts and named networks at all, is on this machine. */
async function traces(): Promise<Record<string, unknown>> {
  const mountinfo = await Deno.readTextFile("/proc/self/mountinfo");
  const processes: string[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [groups, command] = [`/proc/${name}/cgroup`, `/proc/${name}/comm`].map((f) =>
        Deno.readTextFileSync(f)
      );
      if (groups.includes(`/${NAME}`)) processes.push(command.trim());
    } catch { /* it has ended */ }
  }
  return {
    processes: processes.sort(),
    mounts: mountinfo.split("\n").filter((line) => line.includes(NAME) || line.includes(cache.directory)),
    groups: hierarchies(mountinfo).map(({ mount }) => `${mount}/weir-kubernetes/${NAME}`).filter(exists),
    folder: exists(cache.cluster(NAME)),
    kubelet: ["/var/lib/kubelet", "/etc/cni", "/opt/cni", "/run/containerd"].filter(exists),
    devices: (await run(["ip", "-brief", "link"])).out.split("\n").filter((line) =>
      /^port\d|^br0/.test(line)
    ),
  };
}
