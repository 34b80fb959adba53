import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { Change, Service } from "@weir/proto/loadbalancer";
import { Policy } from "@weir/proto/policy";
import type { ClusterApi, NodeApi } from "./apis.ts";
import { hostsText } from "./hosts.ts";
import { Lab } from "./lab.ts";
import { topology } from "./topology.ts";
import { createPodNamespace, labNamespaces, processesIn, removeNamespaces } from "./underlay.ts";

const isRoot = Deno.uid() === 0;
if (!isRoot) console.log("SKIP Lab tests: pods are network namespaces and need root");

type FakeNode = NodeApi & { endpoints: Map<string, Endpoint> };

/** A node whose endpoints are ready as soon as they are asked for. */
function fakeNode(number: number, ipcache = new Map<string, number>()): FakeNode {
  const endpoints = new Map<string, Endpoint>();
  return {
    endpoints,
    putEndpoint(endpoint) {
      const ipv4 = `10.0.${number}.${endpoints.size + 2}`;
      endpoints.set(
        endpoint.name,
        Endpoint.create({ ...endpoint, status: { state: "READY", identity: 300, ipv4 } }),
      );
      ipcache.set(`${ipv4}/32`, 300);
      return Promise.resolve();
    },
    deleteEndpoint: (name) => Promise.resolve(void endpoints.delete(name)),
    listEndpoints: () => Promise.resolve([...endpoints.values()]),
    listIpcache: () => Promise.resolve(ipcache),
  };
}

function fakeCluster(): ClusterApi & { policies: Map<string, Policy>; served: string[] } {
  const policies = new Map<string, Policy>();
  const served: string[] = [];
  return {
    policies,
    /** What the load balancer was told, in order. */
    served,
    getPolicy: (name) => Promise.resolve(policies.get(name)),
    putPolicy(policy) {
      policies.set(policy.name, Policy.create(policy));
      return Promise.resolve(policies.get(policy.name)!);
    },
    deletePolicy: (name) => Promise.resolve(policies.delete(name)),
    listNodes: () => Promise.resolve([]),
    waitForPolicies: () => Promise.resolve([]),
    changeServices: (verb, text) => {
      served.push(`${verb} ${/name: (\w+)/.exec(text)?.[1]}`);
      return Promise.resolve([Change.create({ kind: "Service", name: "x/web", change: "created" })]);
    },
    listServices: () =>
      Promise.resolve([Service.create({ serviceName: "web", namespace: "x", clusterIps: ["10.96.1.1"] })]),
    putPod(pod) {
      const line = `${pod.name} ${pod.state}`;
      if (served.at(-1) !== line && !served.includes(line)) served.push(line);
      return Promise.resolve();
    },
    deletePod(name) {
      served.push(`${name} gone`);
      return Promise.resolve();
    },
  };
}

const pod = (name: string, more = "", labels = "") =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: x, labels: { app: ${name}${labels} } }\nspec: { ${more} }\n`;
const NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: { name: x, labels: { team: a } }\n";
const SERVICE =
  "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: x }\nspec: { ports: [{ port: 80 }] }\n";
const POLICY =
  "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: p, namespace: x }\nspec: { endpointSelector: {} }\n";

Deno.test({
  name: "Lab applies and deletes manifests as kubectl would",
  ignore: !isRoot,
  async fn() {
    const name = `u${Deno.pid}`;
    const ipcache = new Map<string, number>();
    const nodes = [fakeNode(1, ipcache), fakeNode(2, ipcache)];
    const cluster = fakeCluster();
    const directory = await Deno.makeTempDir();
    const lab = new Lab({
      topology: topology(name, 2),
      cluster,
      nodeApis: new Map([["node-1", nodes[0]], ["node-2", nodes[1]]]),
      logDirectory: directory,
      hostsFile: `${directory}/hosts`,
      pollMs: 5,
    });
    const file = (text: string) => ({ files: [{ file: "t.yaml", directory: "/", text }], pods: [] });
    const actions = async (text: string) =>
      (await lab.apply(file(text))).results.map(({ name, action }) => `${name} ${action}`);
    try {
      deepEqual(
        await actions([pod("a"), pod("b", "nodeName: node-1"), NAMESPACE, POLICY].join("---\n")),
        ["x created", "a created", "b created", "p created"],
      );
      deepEqual(
        [lab.pod("x", "a").around.node, lab.pod("x", "b").around.node],
        ["node-2", "node-1"],
        "spread",
      );
      equal((await labNamespaces(name)).length, 2);
      equal(
        nodes[1].endpoints.get("x/a")?.labels.includes("k8s:io.cilium.k8s.namespace.labels.team=a"),
        true,
      );

      deepEqual(await actions(SERVICE), ["web created"]);
      match(hostsText(lab), /^10\.96\.1\.1 web\.x web\.x\.svc web\.x\.svc\.cluster\.local$/m);
      deepEqual(await actions([pod("a"), POLICY].join("---\n")), ["a unchanged", "p unchanged"]);
      deepEqual(await actions(pod("a", "", ", tier: front")), ["a configured"]);
      equal(nodes[1].endpoints.get("x/a")?.labels.includes("k8s:tier=front"), true, "relabelled");
      deepEqual(await actions(NAMESPACE.replace("team: a", "team: b")), ["x configured"]);
      equal(
        nodes[0].endpoints.get("x/b")?.labels.includes("k8s:io.cilium.k8s.namespace.labels.team=b"),
        true,
      );
      match(hostsText(lab), /^10\.0\.2\.\d+ a a\.x$/m);

      await rejects(lab.apply(file(pod("b", "nodeName: node-2"))), /a running pod does not move/);
      await rejects(lab.apply(file(pod("c", "nodeName: node-7"))), /node-1, node-2/);
      await rejects(lab.apply(file(pod("d") + "---\nkind: Job\n")), /kind "Job" is not supported/);
      equal(lab.pods.length, 2, "what was refused changed nothing");

      const deleted = await lab.delete(file([NAMESPACE, POLICY].join("---\n")));
      deepEqual(deleted.results.map(({ name, action }) => `${name} ${action}`).sort(), [
        "a deleted",
        "b deleted",
        "p deleted",
        "x deleted",
      ]);
      deepEqual(
        cluster.served.filter((line) => line.startsWith("x/a")),
        [
          "x/a BACKEND_STATE_UNSPECIFIED",
          "x/a ACTIVE",
          "x/a TERMINATING",
          "x/a gone",
        ],
        "a pod's life as services see it, one line for each state",
      );
      equal(cluster.policies.size + nodes[0].endpoints.size + nodes[1].endpoints.size, 0);
      equal((await labNamespaces(name)).length, 0);
    } finally {
      await removeNamespaces(await labNamespaces(name));
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test({
  name: "Lab keeps a pod's command running, and a pod that never becomes ready is a failure with its reason",
  ignore: !isRoot,
  async fn() {
    const name = `v${Deno.pid}`;
    const node = fakeNode(1);
    const directory = await Deno.makeTempDir();
    const lab = new Lab({
      topology: topology(name, 1),
      cluster: fakeCluster(),
      nodeApis: new Map([["node-1", node]]),
      logDirectory: directory,
      hostsFile: `${directory}/hosts`,
      pollMs: 5,
      readyMsMax: 300,
    });
    const apply = (text: string) =>
      lab.apply({ files: [{ file: "t.yaml", directory: "/", text }], pods: [] });
    try {
      await apply(
        pod("a", `containers: [{ name: main, command: [sh, -c, "echo hello $POD_NAME; exec sleep 60"] }]`),
      );
      const process = () => lab.pod("x", "a").toLabPod();
      for (let i = 0; i < 100 && process().pid === 0; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const { pid } = process();
      await new Promise((resolve) => setTimeout(resolve, 200));
      match(await Deno.readTextFile(`${directory}/x.a.main.log`), /^hello a$/m);
      Deno.kill(pid, "SIGKILL");
      for (let i = 0; i < 200 && process().restarts === 0; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      equal(process().restarts, 1);

      node.listEndpoints = () =>
        Promise.resolve([Endpoint.create({ name: "x/b", status: { state: "WAITING_FOR_IDENTITY" } })]);
      const { results } = await apply(pod("b"));
      equal(results[0].action, "failed");
      match(results[0].message, /not ready: endpoint waiting-for-identity/);
    } finally {
      await lab.halt();
      await removeNamespaces(await labNamespaces(name));
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test({
  name:
    "Lab runs a pod with hostNetwork on its node, with the node's addresses, and ends what is the pod's only",
  ignore: !isRoot,
  async fn() {
    const name = `w${Deno.pid}`;
    const node = fakeNode(1), cluster = fakeCluster();
    const told: Record<string, unknown>[] = [];
    cluster.putPod = (pod) => Promise.resolve(void told.push(pod as never));
    const directory = await Deno.makeTempDir();
    const lab = new Lab({
      topology: topology(name, 1),
      cluster,
      nodeApis: new Map([["node-1", node]]),
      logDirectory: directory,
      hostsFile: `${directory}/hosts`,
      pollMs: 5,
    });
    const [{ netns, ipv4, ipv6 }] = lab.options.topology.nodes;
    const file = (text: string) => ({ files: [{ file: "t.yaml", directory: "/", text }], pods: [] });
    const script = "sleep 61 & setsid sleep 62 & exec sleep 63";
    const host = pod(
      "h",
      `hostNetwork: true, containers: [{ name: main, command: [sh, -c, "${script}"], ports: [{ containerPort: 80, hostPort: 80 }] }]`,
    );
    await createPodNamespace(netns);
    const agent = new Deno.Command("ip", { args: ["netns", "exec", netns, "sleep", "64"] }).spawn();
    try {
      const { results } = await lab.apply(file(host));
      deepEqual(results.map(({ action, message }) => [action, message]), [["created", ""]]);
      const { netns: its, identity, state, ...shown } = lab.pod("x", "h").toLabPod();
      deepEqual([its, identity, state, shown.ipv4, shown.ipv6], [netns, 1, "ready", ipv4, ipv6]);
      equal(node.endpoints.size, 0, "no endpoint of its own");
      deepEqual(await labNamespaces(name), [netns]);
      match(hostsText(lab), new RegExp(`^${ipv4} h h\\.x$`, "m"));
      deepEqual(told.at(-1)?.addresses, [ipv4, ipv6]);
      deepEqual((told.at(-1)?.ports as { hostPort: number }[]).map(({ hostPort }) => hostPort), [0]);
      const running = async () => (await processesIn([netns])).length;
      for (let i = 0; i < 200 && await running() < 4; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      equal(await running(), 4);
      const changed = (await lab.apply(file(pod("h")))).results[0];
      deepEqual([changed.action, /hostNetwork .* does not change/.test(changed.message)], ["failed", true]);
      equal((await lab.delete(file(host))).results[0].action, "deleted");
      for (let i = 0; i < 50 && await running() > 1; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      equal(await running(), 1, "the node's own processes stay");
      deepEqual(await labNamespaces(name), [netns]);
    } finally {
      await lab.halt();
      agent.kill("SIGKILL");
      await agent.status;
      await removeNamespaces(await labNamespaces(name));
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test({
  name: "Lab.apply ends when every node knows the addresses of the pods, and names a node that does not",
  ignore: !isRoot,
  async fn() {
    const name = `x${Deno.pid}`;
    const nodes = [fakeNode(1), fakeNode(2)];
    const directory = await Deno.makeTempDir();
    const lab = new Lab({
      topology: topology(name, 2),
      cluster: fakeCluster(),
      nodeApis: new Map([["node-1", nodes[0]], ["node-2", nodes[1]]]),
      logDirectory: directory,
      hostsFile: `${directory}/hosts`,
      pollMs: 5,
      addressesMsMax: 200,
      answerMsMax: 200,
    });
    const apply = async (text: string) =>
      (await lab.apply({ files: [{ file: "t.yaml", directory: "/", text }], pods: [] })).notes;
    let asked = 0;
    try {
      nodes[1].listIpcache = () =>
        Promise.resolve(new Map([["10.0.1.2/32", ++asked < 3 ? 299 : 300], ["10.0.2.2/32", 300]]));
      deepEqual(await apply(pod("a", "nodeName: node-1")), []);
      equal(asked, 3, "an older identity is not the pod's");
      deepEqual(await apply(pod("a", "nodeName: node-1")), []);
      equal(asked, 3, "nothing changed");
      deepEqual(await apply(pod("b", "nodeName: node-1")), [
        "node-2 does not know 1 of 2 addresses of pods yet: see weir status",
      ]);
      nodes[1].listIpcache = () => new Promise(() => {});
      deepEqual(await apply(pod("c", "nodeName: node-1")), [
        "whether node-2 knows the pods' addresses is not known: no answer within 0.2 s",
      ]);
    } finally {
      await lab.halt();
      await removeNamespaces(await labNamespaces(name));
      await Deno.remove(directory, { recursive: true });
    }
  },
});
