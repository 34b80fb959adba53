/**
 * Whatever process is killed: running streams go on, allowed connections are made, denied ones are not, and the
 * restarted process finds everything as it was.
 * @module
 */
import assert from "node:assert/strict";
import { PodStream } from "../e2e/stream.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";

const lab = new Lab(`kill${Deno.pid}`);
const server = new URL("../e2e/testdata/server.py", import.meta.url).pathname;

function pod(name: string, node: number, command: string): string {
  return `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: default, labels: { app: ${
    name.split("-")[0]
  } } }\n` +
    `spec: { nodeName: node-${node}, containers: [{ name: main, command: [${command}] }] }\n`;
}
const MANIFESTS = [
  pod("server-1", 1, `python3, "${server}", "80/TCP"`),
  pod("server-2", 2, `python3, "${server}", "80/TCP"`),
  pod("client-1", 1, `sleep, infinity`),
  pod("stranger-1", 1, `sleep, infinity`),
  "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: default }\n" +
  "spec: { clusterIP: 10.96.0.50, selector: { app: server }, ports: [{ port: 8000, targetPort: 80 }] }\n",
  "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: clients, namespace: default }\n" +
  "spec: { endpointSelector: { matchLabels: { app: server } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }\n",
].join("---\n");

/** Cluster IP of service "web". */
const SERVICE = "10.96.0.50";

interface ProcessRow {
  role: string;
  name: string;
  node: string;
  pid: number;
}
async function processes(): Promise<ProcessRow[]> {
  const parsed = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
  const labs = Array.isArray(parsed) ? parsed : parsed.items;
  return labs.find((l: { name: string }) => l.name === lab.name).processes;
}

async function datapathStatus(
  node: string,
): Promise<{ leftovers?: number; rebuilt?: number; synced?: boolean }> {
  const socket = `/run/weir/${lab.name}-${node}/datapath.sock`;
  const { out } = await run("curl", ["-s", "--unix-socket", socket, "http://localhost/v1/status"]);
  return JSON.parse(out || "{}");
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 150; tries++) {
    if (await condition().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(`${what}: not within 30 seconds of trying`);
}

const traffic = [
  "from: client-1, to: server-1, port: 80, expect: allow",
  "from: client-1, to: server-2, port: 80, expect: allow",
  "from: stranger-1, to: server-1, port: 80, expect: deny",
  "from: stranger-1, to: server-2, port: 80, expect: deny",
];

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, MANIFESTS);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => await lab.down());
}

for (
  const victim of [
    "datapath",
    "endpoint-manager",
    "flow-exporter",
    "policy-engine",
    "identity-allocator",
    "load-balancer",
    "agent",
  ]
) {
  Deno.test({
    name: `kill -9 of the ${victim} loses nothing that is allowed and lets nothing through that is denied`,
    ignore: !canRun,
    async fn() {
      await lab.expect(traffic);
      const address =
        JSON.parse(await lab.ok(["endpoint", "get", "default/server-2", "--node", "node-2", "-o", "json"]))
          .status.ipv4;
      await using running = new PodStream(lab, "default/client-1", address, 80);
      await using served = new PodStream(lab, "default/client-1", SERVICE, 8000);
      await until("the streams run", () => Promise.resolve(running.count > 5 && served.count > 5));
      const row = (await processes()).find((p) => p.name === victim && p.node === "node-1");
      assert.ok(row, `lab list names a ${victim}`);
      Deno.kill(row.pid, "SIGKILL");
      await lab.expect(traffic);
      await using fresh = new PodStream(lab, "default/client-1", SERVICE, 8000);
      await until("the service takes new connections", () => Promise.resolve(fresh.count > 2));
      const before = running.count, servedBefore = served.count;
      await until("it is back and in sync", async () => {
        const again = (await processes()).find((p) => p.name === victim && p.node === row.node);
        return again !== undefined && again.pid !== row.pid &&
          (await datapathStatus("node-1")).synced === true;
      });
      await until(
        "the streams went on",
        () => Promise.resolve(running.count > before + 5 && served.count > servedBefore + 5),
      );
      for (const stream of [running, served, fresh]) {
        assert.equal(stream.stopped, false, `a stream paused: ...${stream.said.slice(-60)}`);
      }
      await lab.expect(traffic);
      const status = await datapathStatus("node-1");
      assert.equal(status.leftovers ?? 0, 0);
      assert.equal(status.rebuilt ?? 0, 0);
    },
  });
}

Deno.test({
  name: "a body of 100 MB is refused by every service without being read",
  ignore: !canRun,
  async fn() {
    const big = await Deno.makeTempFile();
    try {
      await Deno.truncate(big, 100 * 1024 * 1024);
      for (
        const [socket, path] of [
          ["endpoint-manager", "endpoints/x"],
          ["datapath", "endpoints/x"],
          ["identity-allocator", "nodes/x"],
          ["policy-engine", "policies/x"],
          ["load-balancer", "services/default/x"],
        ]
      ) {
        const { out } = await run("curl", [
          ...["-s", "-o", "/dev/null", "-w", "%{http_code}", "-T", big],
          ...["--unix-socket", `/run/weir/${lab.name}-node-1/${socket}.sock`, `http://localhost/v1/${path}`],
        ]);
        assert.equal(out, "413", socket);
      }
      await lab.expect(traffic);
    } finally {
      await Deno.remove(big);
    }
  },
});
