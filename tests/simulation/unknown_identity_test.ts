/** An identity that a node's policies were not made with: nobody reaches it, or is reached by it, before they were. @module */
import assert from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { ApplyRequest, ApplyResponse } from "@weir/proto/policy";
import { Invariants } from "./invariants.ts";
import { generator } from "./random.ts";
import { ENGINE, type Fault, World } from "./world.ts";

/**
 * node-2 cannot speak to the policy engine while the first endpoint of an identity that its own is denied starts on node-3.
 * @returns what did not hold, and whether node-2 has the address in its kernel: cut off, and afterwards
 */
async function run(fault?: Fault): Promise<{ violations: string[]; cutOff: boolean; healed: boolean }> {
  const folder = await Deno.makeTempDir({ prefix: `weir-simulation-${Deno.pid}-` });
  const random = Math.random;
  Math.random = generator(5);
  const world = new World(5, folder, { fault });
  try {
    const invariants = new Invariants(world);
    await world.start();
    for (const node of world.nodes) invariants.watch(node);
    const put = (node: number, name: string, label: string) =>
      void world.nodes[node].manager.put(
        `default/${name}`,
        Endpoint.create({ name: `default/${name}`, netns: `/run/netns/${name}`, labels: [label] }),
      );
    const spec = {
      endpointSelector: {},
      egressDeny: [{ toEndpoints: [{ matchLabels: { app: "1" } }] }],
      egress: [{ toEntities: ["all"] }],
    };
    const manifest = {
      apiVersion: "cilium.io/v2",
      kind: "CiliumNetworkPolicy",
      metadata: { name: "p" },
      spec,
    };
    void world.client(world.admin, ENGINE).call("/v1/policies:apply", {
      request: { message: ApplyRequest, value: { manifest: JSON.stringify(manifest) } },
      response: ApplyResponse,
    });
    put(1, "a", "k8s:app=2");
    const pass = async (name: string) => {
      for (let i = 0; i < 10; i++) {
        await world.time.advance(3_000);
        invariants.check(name);
      }
      const identity = [...world.nodes[2].manager.table.workloads()][0]?.status.identity;
      return [...world.nodes[1].datapath.ipcache.values()].includes(identity);
    };
    await pass("before");
    world.network.separate("node-2", ENGINE, "silent");
    put(2, "b", "k8s:app=1");
    const cutOff = await pass("cut off");
    world.network.heal();
    const healed = await pass("healed");
    return { violations: invariants.violations, cutOff, healed };
  } finally {
    Math.random = random;
    await world.close();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("what a node cut off from the policy engine cannot know to be denied has no address there", async () => {
  assert.deepEqual(await run(), { violations: [], cutOff: false, healed: true });
});

Deno.test("the simulation notices when addresses do not wait for policies that know them", async () => {
  const { violations, cutOff } = await run("addresses-do-not-wait");
  assert.match(violations[0] ?? "nothing", /denied by policy set .* lets EGRESS/);
  assert.equal(cutOff, true);
});
