/**
 * Where a service is served and by whom: health check node ports, hints for zones and nodes, backends that end, and the
 * annotations that keep a service to a type or to some nodes. From the object to packets.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { answers, ask, at, client, DENIED_S, type From, program, service, whoami } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`place${Deno.pid}`);
const NODE_1 = "172.30.0.11", NODE_2 = "172.30.0.12";
const NODE_1_V6 = "fd00:30::b", NODE_2_V6 = "fd00:30::c";
const [NEAR, FAR]: From[] = [{ pod: "shop/near" }, { pod: "shop/far" }];
const pod = (name: string, node: number) => whoami(name, node, `app: web, only: ${name}`, ["8080/TCP"]);
const spread = (distribution: string) =>
  `${distribution}selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }]`;

const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("near", 1),
  client("far", 2),
  ...[1, 2].map((node) => pod(`web-${node}`, node)),
  service("zone", `clusterIP: 10.96.0.1, ${spread("trafficDistribution: PreferClose, ")}`),
  service("node", `clusterIP: 10.96.0.2, ${spread("trafficDistribution: PreferSameNode, ")}`),
  service("auto", `clusterIP: 10.96.0.3, ${spread("")}`, "service.kubernetes.io/topology-mode: Auto"),
  service("any", `clusterIP: 10.96.0.4, ${spread("")}`),
].join("---\n");

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, manifests, ["--agent", "node-1:zone=a", "--agent", "node-2:zone=b"]);
    await answers(lab, NEAR, "10.96.0.4", 80);
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });
const apply = (text: string) => lab.ok(["service", "apply", "-f", "-"], text);
const remove = (...names: string[]) => lab.ok(["service", "delete", ...names.map((name) => `shop/${name}`)]);
const names = async (from: From, address: string, count = 16) => {
  const seen = await ask(lab, from, "tcp", address, 80, count, DENIED_S);
  return seen.failed.length > 0 ? [`failed: ${seen.failed[0]}`] : Object.keys(seen.by).sort();
};
/** Waits until exactly these answer. */
async function served(from: From, address: string, ...expected: string[]): Promise<void> {
  let seen: string[] = [];
  await until(() => `${expected} at ${address}, saw ${seen}`, async () => {
    seen = await names(from, address);
    return String(seen) === String(expected);
  });
}

/** Status, weight and body that a health check gets. */
async function check(host: string, port: number): Promise<{ status: string; weight: string; body: string }> {
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}/healthz`;
  const { out } = await at(lab, "outside", ["curl", "-s", "-m", "3", "-i", url]);
  const [header, body = ""] = out.split("\r\n\r\n");
  const weight = /^X-Load-Balancing-Endpoint-Weight: (\d+)/mi.exec(header)?.[1] ?? "";
  return { status: /^HTTP\/1\.1 (\d+)/.exec(header)?.[1] ?? "none", weight, body };
}

/** An EndpointSlice of a service without selector; `conditions` by pod. */
async function slice(of: string, endpoints: Record<string, string>): Promise<string> {
  const items = await Promise.all(
    Object.entries(endpoints).map(async ([name, more]) => {
      const { status } = JSON.parse(
        await lab.ok(["endpoint", "get", `shop/${name}`, "--node", `node-${name.slice(-1)}`, "-o", "json"]),
      );
      return `  - { addresses: [${status.ipv4}], nodeName: node-${name.slice(-1)}, ${more} }`;
    }),
  );
  return `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n` +
    `metadata: { name: ${of}, namespace: shop, labels: { kubernetes.io/service-name: ${of} } }\n` +
    `ports: [{ port: 8080 }]\nendpoints:\n${items.join("\n")}\n`;
}
const READY = "conditions: { ready: true, serving: true, terminating: false }";
const ENDING = "conditions: { ready: false, serving: true, terminating: true }";
const ENDED = "conditions: { ready: false, serving: false, terminating: true }";
const bare = (name: string, spec: string, annotation = "") =>
  service(name, `${spec}, ports: [{ port: 80, targetPort: 8080 }]`, annotation);

e2e(
  "a health check node port says on each node, to both families, how many ready backends it has",
  async () => {
    await apply(
      service(
        "checked",
        "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31000, selector: { only: web-2 }, " +
          "ports: [{ name: a, port: 80, targetPort: 8080 }, { name: b, port: 81, targetPort: 8080 }]",
      ),
    );
    for (const host of [NODE_2, NODE_2_V6]) {
      await until(`${host} answers`, async () => (await check(host, 31_000)).status === "200");
      const { weight, body } = await check(host, 31_000);
      assert.deepEqual([weight, JSON.parse(body)], ["1", {
        service: { namespace: "shop", name: "checked" },
        localEndpoints: 1,
        serviceProxyHealthy: true,
      }]);
    }
    for (const host of [NODE_1, NODE_1_V6]) {
      await until(`${host} answers`, async () => (await check(host, 31_000)).status === "503");
      assert.equal((await check(host, 31_000)).weight, "0");
    }
    assert.match(await lab.ok(["service", "get", "shop/checked"]), /health check node port 31000/);
    await remove("checked");
    await until("nobody answers", async () => (await check(NODE_2, 31_000)).status === "none");
  },
);

e2e("a health check node port that another process has is said, and taken when it is free", async () => {
  const words = ["python3", program("whoami.py"), "squatter", "31001/TCP"];
  const started = await at(lab, { node: "node-1" }, [
    "sh",
    "-c",
    '"$@" >/dev/null 2>&1 & echo $!',
    "sh",
    ...words,
  ]);
  const pid = Number(started.out);
  try {
    await answers(lab, { node: "node-1" }, "127.0.0.1", 31_001);
    await apply(
      bare(
        "taken",
        "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31001, selector: { app: web }",
      ),
    );
    await until("it is said", async () => {
      const { out } = await lab.weir(["status"]);
      return /node-1: DEGRADED: services: service shop\/taken:80: .*port 31001: another process/.test(out);
    });
    await until("the other node answers", async () => (await check(NODE_2, 31_001)).status === "200");
  } finally {
    Deno.kill(pid, "SIGKILL");
  }
  await until("node-1 answers too", async () => (await check(NODE_1, 31_001)).status === "200");
  await remove("taken");
});

e2e(
  "trafficDistribution and topology-mode keep to the zone or node, and fall back where it has nobody",
  async () => {
    for (const address of ["10.96.0.1", "10.96.0.2", "10.96.0.3"]) {
      await served(NEAR, address, "web-1");
      await served(FAR, address, "web-2");
    }
    await served(NEAR, "10.96.0.4", "web-1", "web-2");
    await lab.ok(["lab", "delete", "pod/shop/web-2"]);
    for (const address of ["10.96.0.1", "10.96.0.2", "10.96.0.3"]) await served(FAR, address, "web-1");
    await lab.put(pod("web-2", 2));
    for (const address of ["10.96.0.1", "10.96.0.2", "10.96.0.3"]) await served(FAR, address, "web-2");
  },
);

e2e(
  "hints of EndpointSlices count without being asked for: nodes before zones, and all when one has none",
  async () => {
    await apply(bare("hinted", "clusterIP: 10.96.0.10"));
    const hints = (zone: string, node: string) =>
      `${READY}, hints: { forZones: [{ name: ${zone} }]${node && `, forNodes: [{ name: ${node} }]`} }`;
    await apply(await slice("hinted", { "web-1": hints("b", ""), "web-2": hints("a", "") }));
    await served(NEAR, "10.96.0.10", "web-2");
    await served(FAR, "10.96.0.10", "web-1");
    await apply(await slice("hinted", { "web-1": hints("b", "node-1"), "web-2": hints("a", "node-2") }));
    await served(NEAR, "10.96.0.10", "web-1");
    await served(FAR, "10.96.0.10", "web-2");
    await apply(await slice("hinted", { "web-1": hints("b", "node-1"), "web-2": READY }));
    await served(NEAR, "10.96.0.10", "web-1", "web-2");
    await remove("hinted");
  },
);

e2e(
  "backends that end and answer take over where nobody is ready: everywhere, and on the node where traffic is local",
  async () => {
    const policies = "externalTrafficPolicy: Local, internalTrafficPolicy: Local";
    await apply(bare("cluster", "clusterIP: 10.96.0.11"));
    await apply(
      `${
        bare("local", `type: LoadBalancer, clusterIP: 10.96.0.12, healthCheckNodePort: 31002, ${policies}`)
      }`,
    );
    const both = async (one: string, two: string) => {
      for (const name of ["cluster", "local"]) await apply(await slice(name, { "web-1": one, "web-2": two }));
    };
    await both(READY, READY);
    await served(NEAR, "10.96.0.11", "web-1", "web-2");
    await served(NEAR, "10.96.0.12", "web-1");
    await until("it is healthy", async () => (await check(NODE_1, 31_002)).status === "200");
    await both(ENDING, READY);
    await served(NEAR, "10.96.0.11", "web-2");
    await served(NEAR, "10.96.0.12", "web-1");
    await until("it is told to go elsewhere", async () => (await check(NODE_1, 31_002)).status === "503");
    assert.equal((await check(NODE_2, 31_002)).status, "200");
    await both(ENDING, ENDED);
    await served(NEAR, "10.96.0.11", "web-1");
    await both(ENDED, ENDED);
    await until("nobody is left", async () => /^failed/.test((await names(NEAR, "10.96.0.11", 1))[0]));
    assert.match((await names(NEAR, "10.96.0.12", 1))[0], /^failed/);
    await remove("cluster", "local");
  },
);

e2e("publishNotReadyAddresses serves who is not ready", async () => {
  await apply(bare("early", "clusterIP: 10.96.0.13, publishNotReadyAddresses: true"));
  const NOT_READY = "conditions: { ready: false, serving: false, terminating: false }";
  await apply(await slice("early", { "web-1": NOT_READY }));
  await served(FAR, "10.96.0.13", "web-1");
  await remove("early");
});

e2e("annotations keep a service to a type, and to nodes by their labels", async () => {
  const nodePort = (name: string, number: number, annotation: string) =>
    service(
      name,
      `type: NodePort, clusterIP: 10.96.0.${number % 100}, selector: { app: web }, ` +
        `ports: [{ port: 80, targetPort: 8080, nodePort: ${number} }]`,
      annotation,
    );
  const selector = `service.cilium.io/node-selector: "topology.kubernetes.io/zone in (a)"`;
  await apply(nodePort("one-type", 30_020, "service.cilium.io/type: NodePort"));
  await apply(nodePort("some-nodes", 30_021, selector));
  await answers(lab, "outside", NODE_2, 30_020);
  await answers(lab, "outside", NODE_1, 30_021);
  await served(NEAR, "10.96.0.21", "web-1", "web-2");
  for (
    const [from, address, port] of [[NEAR, "10.96.0.20", 80], ["outside", NODE_2, 30_021], [
      FAR,
      "10.96.0.21",
      80,
    ]]
  ) {
    const seen = await ask(lab, from as From, "tcp", address as string, port as number, 1, DENIED_S);
    assert.equal(seen.failed.length, 1, `${JSON.stringify(from)} ${address}`);
  }
  await remove("one-type", "some-nodes");
});
