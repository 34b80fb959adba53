/** A cluster of simulated nodes against real services: it converges, also when a service is killed, and policies are acknowledged. @module */
import assert from "node:assert/strict";
import { SimulatedCluster } from "./simulated_cluster.ts";
import { SERVICES } from "./processes.ts";

Deno.test("a hundred nodes with a thousand pods converge, and again after each service was killed", async () => {
  const directory = await Deno.makeTempDir({ prefix: `weir-scale-${Deno.pid}-` });
  const cluster = new SimulatedCluster({
    nodes: 100,
    announcing: 90,
    pods: 1000,
    seed: 1,
    workers: 1,
    mirrors: 2,
    atOnce: 32,
    isJoint: true,
    allocatesEach: false,
    heartbeatMs: 1000,
    directory,
    root: new URL("../../", import.meta.url).pathname,
    timeoutS: 300,
  });
  try {
    await cluster.processes.startServices();
    cluster.begin();
    await cluster.until("half of the nodes have begun", () => cluster.state.begun >= 50, 10);
    await cluster.processes.restart("identity-allocator");
    await cluster.until("all nodes have begun", () => cluster.state.begun === 100);
    await cluster.converged();
    await cluster.applyPolicy(0);
    for (const name of SERVICES) {
      const { reopened } = cluster.state;
      await cluster.processes.restart(name);
      await cluster.change(`after-${name}`);
      await cluster.heard("the change");
      await cluster.applyPolicy(1 + SERVICES.indexOf(name));
      if (name === "load-balancer") continue;
      await cluster.until(
        "the nodes have opened their streams again",
        () => cluster.state.reopened >= reopened + 98,
      );
    }
    assert.deepEqual([...cluster.failures.keys()].filter((what) => what.includes("refused")), []);
  } finally {
    await cluster.stop();
    await Deno.remove(directory, { recursive: true });
  }
});
