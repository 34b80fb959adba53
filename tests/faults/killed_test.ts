/**
 * Whatever process is killed, whenever and however often: running streams go on, allowed connections are made, denied ones are
 * not, and the restarted process finds everything as it was. The seed of what is random is printed, and WEIR_SEED repeats it.
 * @module
 */
import assert from "node:assert/strict";
import { PodStream } from "../e2e/stream.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { seededRandom } from "../seeded_random.ts";
import { addressOf, CAST, isWell, pidOf, processes, signal, TRAFFIC, Witness } from "./faulty_lab.ts";

const lab = new Lab(`kill${Deno.pid}`);
const MANIFESTS = [
  CAST,
  "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: default }\n" +
  "spec: { clusterIP: 10.96.0.50, selector: { app: server }, ports: [{ port: 8000, targetPort: 80 }] }\n",
].join("---\n");

/** Cluster IP of service "web". */
const SERVICE = "10.96.0.50";

async function datapathStatus(
  node: string,
): Promise<{ leftovers?: number; rebuilt?: number; synced?: boolean }> {
  const socket = `/run/weir/${lab.name}-${node}/datapath.sock`;
  const { out } = await run("curl", ["-s", "--unix-socket", socket, "http://localhost/v1/status"]);
  return JSON.parse(out || "{}");
}

const KILLS = 20;
/** Between two kills: from at once, so that a restart is hit in the middle, to long enough for a whole restart. */
const PAUSE_MS_MAX = 2500;

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
    "l7-proxy",
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
      await lab.expect(TRAFFIC);
      const address = await addressOf(lab, "server-2", "node-2");
      await using running = new PodStream(lab, "default/client-1", address, 80);
      await using served = new PodStream(lab, "default/client-1", SERVICE, 8000);
      await until("the streams run", () => running.count > 5 && served.count > 5);
      const killed = await pidOf(lab, victim, "node-1");
      signal(killed, "SIGKILL");
      await lab.expect(TRAFFIC);
      await using fresh = new PodStream(lab, "default/client-1", SERVICE, 8000);
      await until("the service takes new connections", () => fresh.count > 2);
      const before = running.count, servedBefore = served.count;
      await until("it is back and in sync", async () => {
        return await pidOf(lab, victim, "node-1") !== killed &&
          (await datapathStatus("node-1")).synced === true;
      });
      await until(
        "the streams went on",
        () => running.count > before + 5 && served.count > servedBefore + 5,
      );
      for (const stream of [running, served, fresh]) {
        assert.equal(stream.stopped, false, `a stream paused: ...${stream.said.slice(-60)}`);
      }
      await lab.expect(TRAFFIC);
      const status = await datapathStatus("node-1");
      assert.equal(status.leftovers ?? 0, 0);
      assert.equal(status.rebuilt ?? 0, 0);
    },
  });
}

Deno.test({
  name:
    "a datapath that dies before the sweep that it was asked for: the next one sweeps nothing of what runs",
  ignore: !canRun,
  async fn() {
    const address = await addressOf(lab, "server-2", "node-2");
    await using running = new PodStream(lab, "default/client-1", address, 80);
    await until("the stream runs", () => running.count > 5);
    for (let round = 1; round <= 4; round++) {
      const [manager, datapath] = [
        await pidOf(lab, "endpoint-manager", "node-2"),
        await pidOf(lab, "datapath", "node-2"),
      ];
      signal(manager, "SIGKILL");
      // It has told what it knows, and the sweep is next, or is at work.
      await until("a new endpoint manager waits for the sweep", async () => {
        const socket = `/run/weir/${lab.name}-node-2/endpoint-manager.sock`;
        const { out } = await run("curl", [
          "-s",
          "-m",
          "20",
          "--unix-socket",
          socket,
          "http://x/readyz?verbose",
        ]);
        return /waits for the first full sync/.test(out) || /^ready/m.test(out);
      }, 10);
      signal(datapath, "SIGKILL");
      await until(
        "both are back and in sync",
        async () =>
          await pidOf(lab, "datapath", "node-2") !== datapath &&
          (await datapathStatus("node-2")).synced === true,
      );
      const { count } = running;
      await until("the stream goes on", () => running.count > count + 5);
      assert.equal(
        running.stopped,
        false,
        `round ${round}: the stream paused: ...${running.said.slice(-60)}`,
      );
      assert.equal(
        (await datapathStatus("node-2")).rebuilt ?? 0,
        0,
        `round ${round}: a device was made anew`,
      );
    }
    await lab.expect(TRAFFIC);
  },
});

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
      await lab.expect(TRAFFIC);
    } finally {
      await Deno.remove(big);
    }
  },
});

Deno.test({
  name: "kill -9 at random of every service and agent: traffic goes on, and all is well afterwards",
  ignore: !canRun,
  async fn() {
    const seed = Number(Deno.env.get("WEIR_SEED")) || crypto.getRandomValues(new Uint32Array(1))[0];
    console.log(`WEIR_SEED=${seed}`);
    const random = seededRandom(seed);
    await using witness = await Witness.begin(lab);
    for (let kills = 0; kills < KILLS; kills++) {
      const living = (await processes(lab)).filter(({ role, pid }) =>
        pid > 0 && role !== "pod" && role !== "lab"
      );
      if (living.length > 0) {
        const victim = living[Math.floor(random() * living.length)];
        signal(victim.pid, "SIGKILL");
        witness.holds(`after kill -9 of ${victim.name} on ${victim.node}, seed ${seed}`);
      }
      await new Promise((resolve) => setTimeout(resolve, random() * PAUSE_MS_MAX));
    }
    await witness.goesOn(`after ${KILLS} kills, seed ${seed}`);
    await isWell(lab);
    witness.holds("in the end");
  },
});
