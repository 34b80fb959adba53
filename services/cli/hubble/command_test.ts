import { equal, match, ok, rejects } from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { FakeCluster } from "../testing/fake_cluster.ts";
import { hubbleCommand } from "./command.ts";

const DEPLOYMENT = "/apis/apps/v1/namespaces/weir-system/deployments/weir-control-plane";
const CONFIG = "/api/v1/namespaces/weir-system/configmaps/weir-config";
const READY = { replicas: 1, updatedReplicas: 1, availableReplicas: 1, observedGeneration: 1 };

function clusterOf(config: string): FakeCluster {
  const cluster = new FakeCluster();
  cluster.put("/api/v1", "configmaps", { metadata: { name: "weir-config" }, data: { "weir.yaml": config } });
  cluster.put("/apis/apps/v1", "deployments", {
    metadata: { name: "weir-control-plane" },
    spec: { replicas: 1 },
    status: READY,
  });
  plane(cluster, "one");
  return cluster;
}

function plane(cluster: FakeCluster, name: string): void {
  cluster.put("/api/v1", "pods", {
    metadata: {
      name,
      labels: { "app.kubernetes.io/name": "weir", "app.kubernetes.io/component": "control-plane" },
    },
    spec: { nodeName: "node-1", containers: [{ image: "x" }] },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  });
}

/** Answers what it is sent, after its own name. */
function echo(name: string): (socket: WebSocket) => void {
  return (socket) =>
    socket.addEventListener("message", ({ data }) => {
      const text = new TextDecoder().decode(new Uint8Array(data, 1));
      socket.send(Uint8Array.from([0, ...new TextEncoder().encode(`${name}:${text}`)]));
    });
}

async function ask(address: string, text: string): Promise<string> {
  const [hostname, port] = address.split(":");
  using connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(text));
  const bytes = new Uint8Array(100), count = await connection.read(bytes);
  return new TextDecoder().decode(bytes.subarray(0, count ?? 0));
}

Deno.test("weir hubble disable and enable change the options, start the control plane anew, and wait for it", async () => {
  await using cluster = clusterOf("masquerade: true\n");
  cluster.onWrite = (method, path) => {
    if (method !== "PATCH" || path !== DEPLOYMENT) return;
    const deployment = cluster.objects.get(DEPLOYMENT);
    deployment.metadata.generation++;
    setTimeout(() => deployment.status.observedGeneration++, 100);
  };
  const config = () => cluster.objects.get(CONFIG).data["weir.yaml"];
  equal(await hubbleCommand(["disable"], cluster.context), 0);
  equal(config(), `hubbleRelayListen: ""\nmasquerade: true\nnoFlowHistory: true\nnoUi: true`);
  ok(cluster.objects.get(DEPLOYMENT).spec.template.metadata.annotations["weir.dev/config-digest"]);
  match(cluster.out, /relay off, ui off, history off.*\nThe control plane is ready/);
  equal(await hubbleCommand(["enable", "--no-ui"], cluster.context), 0);
  equal(config(), "masquerade: true\nnoUi: true");
  const before = cluster.writes.length;
  equal(await hubbleCommand(["enable", "--no-ui"], cluster.context), 0);
  equal(cluster.writes.length, before, "what is as wanted is not changed");
  ok(!cluster.writes.some(({ path }) => path.includes("daemonsets")), "nodes are left alone");
});

Deno.test("weir hubble enable says why the control plane does not get ready, and ends", async () => {
  await using cluster = clusterOf("noUi: true\n");
  cluster.onWrite = (_method, path) => {
    if (path === DEPLOYMENT) cluster.objects.get(DEPLOYMENT).status = { ...READY, availableReplicas: 0 };
  };
  equal(await hubbleCommand(["enable", "--timeout=1"], cluster.context), 1);
  match(cluster.err, /Deployment weir-control-plane is not ready: of 1 pods 0 are ready/);
});

Deno.test("weir hubble port-forward leads to the control plane's pod, and to the next one after it went", async () => {
  await using cluster = clusterOf("");
  let name = "one";
  cluster.onPort = (pod) => pod === name ? echo(name) : undefined;
  const { context } = cluster;
  const done = hubbleCommand(["port-forward", "--listen", "127.0.0.1:0"], context);
  done.catch(() => {});
  await until("it listens", () => cluster.out.includes("\n"));
  const address = cluster.out.trim();
  equal(await ask(address, "a"), "one:a");
  cluster.objects.delete("/api/v1/namespaces/weir-system/pods/one");
  plane(cluster, name = "two");
  equal(await ask(address, "b"), "two:b");
  // While there is none, connections end and the reason is said, once.
  cluster.objects.delete("/api/v1/namespaces/weir-system/pods/two");
  name = "three";
  equal(await ask(address, "c"), "");
  equal(await ask(address, "c"), "");
  equal(cluster.err.match(/Cannot reach Weir's control plane/g)?.length, 1, cluster.err);
  cluster.interrupt.abort();
  equal(await done, 0);
});

Deno.test("weir hubble port-forward and ui say before they listen that nobody is there", async () => {
  await using cluster = clusterOf("");
  cluster.onPort = () => (socket) =>
    socket.send(Uint8Array.from([1, ...new TextEncoder().encode("connection refused")]));
  await rejects(
    () => hubbleCommand(["port-forward"], cluster.context),
    /port 4245 of Pod .*connection refused/,
  );
  await using off = clusterOf('hubbleRelayListen: ""\nnoUi: true\n');
  await rejects(() => hubbleCommand(["port-forward"], off.context), /turned off; weir hubble enable/);
  await rejects(() => hubbleCommand(["ui"], off.context), /turned off; weir hubble enable/);
  await using empty = new FakeCluster();
  await rejects(
    () => hubbleCommand(["status"], empty.context),
    /Weir is not installed in namespace weir-system/,
  );
});
