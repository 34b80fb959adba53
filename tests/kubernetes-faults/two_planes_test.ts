/**
 * Weir by Helm's real binary, with two control planes on one PostgreSQL: one is killed, both are replaced by another version and
 * back, under traffic.
 * @module
 */
import assert from "node:assert/strict";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { waitFor } from "../kubernetes/cluster/process.ts";
import { nowS, said, Traffic } from "../kubernetes/faults/traffic.ts";
import { OTHER_TAG, WeirCluster } from "../kubernetes/faults/weir.ts";
import { missing, testCluster } from "../kubernetes/test_cluster.ts";
import { WEIR_VERSION } from "../../services/common/version.ts";

const without = missing ?? postgresMissing();
if (without !== undefined) console.log(`SKIP tests/kubernetes-faults/two_planes_test.ts: ${without}`);
const CHART = new URL("../../deploy/helm/weir", import.meta.url).pathname;
const BRIDGE = new URL("../kubernetes/faults/socket_bridge.ts", import.meta.url).pathname;
const DATABASE = "172.30.0.1";

Deno.test(
  { name: "Two control planes by Helm on one PostgreSQL", ignore: without !== undefined },
  async (t) => {
    await using cluster = await testCluster();
    const weir = new WeirCluster(cluster);
    await weir.importImages({ other: true });
    const postgres = await TestPostgres.start();
    let bridge: Deno.ChildProcess | undefined;
    try {
      await postgres.createDatabase("plane");
      // It listens on a socket of this machine; nodes reach it in the cluster's network.
      const [command, ...args] = cluster.inNetwork(
        [Deno.execPath(), "run", "-A", BRIDGE, DATABASE, "5432", `${postgres.directory}/.s.PGSQL.5432`],
      );
      bridge = new Deno.Command(command, { args, stdin: "null", stdout: "piped", stderr: "inherit" }).spawn();
      await bridge.stdout.getReader().read();
      await cluster.kubectl(["create", "namespace", "weir-system"]);
      await cluster.kubectl([
        ...["create", "secret", "generic", "weir-database", "-n", "weir-system"],
        `--from-literal=url=postgres://weir@${DATABASE}:5432/plane`,
      ]);
      const values = ["--set", "controlPlane.replicas=2", "--set", "apiServer=https://172.30.0.1:6443"];
      const upgrade = (tag: string) =>
        weir.helm(
          ...["upgrade", "--install", "weir", CHART, "-n", "weir-system", "--wait", "--timeout=9m"],
          ...values,
          "--set",
          `image.tag=${tag}`,
        );
      await upgrade(WEIR_VERSION);
      await cluster.kubectl([
        "rollout",
        "status",
        "-n",
        "kube-system",
        "deployment/coredns",
        "--timeout=300s",
      ]);
      const traffic = await Traffic.start(cluster);
      await weir.converged();
      const step = (name: string, fault: () => Promise<unknown>) =>
        t.step(name, async () => {
          const sinceS = nowS();
          await fault();
          await weir.converged();
          await traffic.flows(nowS());
          const counted = traffic.counted(sinceS), line = `${name}: ${said(counted)}`;
          console.log(`  ${line}`);
          assert.deepEqual([counted.denied.through, counted.short.lost, counted.long.lost], [0, 0, 0], line);
        });
      const selector = "app.kubernetes.io/name=weir,app.kubernetes.io/component=control-plane";
      await step("one of two control planes is killed, and pods come and go meanwhile", async () => {
        const name = await cluster.kubectl([
          ...["get", "pod", "-n", "weir-system", "-l", selector, "-o", "jsonpath={.items[0].metadata.name}"],
        ]);
        await cluster.kubectl(["delete", "pod", "-n", "weir-system", name, "--grace-period=0", "--force"]);
        await cluster.kubectl([
          "create",
          "deployment",
          "more",
          "--image=bed.test/pause:3.10.2",
          "--replicas=4",
        ]);
        await cluster.kubectl(["rollout", "status", "deployment/more", "--timeout=300s"]);
        await cluster.kubectl(["delete", "deployment", "more"]);
        await waitFor("its pods to go", async () => {
          return await cluster.kubectl(["get", "pods", "-l", "app=more", "-o", "name"]) === "";
        }, { seconds: 300, everyMs: 1000 });
      });
      await step("helm upgrade to another version", () => upgrade(OTHER_TAG));
      await step("helm upgrade back", () => upgrade(WEIR_VERSION));
      await t.step("helm uninstall", async () => {
        await weir.helm("uninstall", "weir", "-n", "weir-system", "--wait", "--timeout=3m");
        assert.equal(
          await cluster.kubectl(["get", "daemonset,deployment", "-n", "weir-system", "-o", "name"]),
          "",
        );
      });
    } finally {
      try {
        bridge?.kill();
      } catch { /* it has ended */ }
      await bridge?.status;
      await postgres.close();
    }
  },
);
