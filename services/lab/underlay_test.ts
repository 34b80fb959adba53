import { equal, match } from "node:assert/strict";
import { enter, run } from "./command.ts";
import { topology } from "./topology.ts";
import {
  createPodNamespace,
  createUnderlay,
  labNamespaces,
  processesIn,
  removeNamespaces,
} from "./underlay.ts";

const isRoot = Deno.uid() === 0;
if (!isRoot) console.log("SKIP underlay tests: they make network namespaces and need root");

Deno.test({
  name:
    "createUnderlay() joins nodes and the outside host on both families, and removeNamespaces() leaves nothing",
  ignore: !isRoot,
  async fn() {
    const lab = topology(`t${Deno.pid}`, 2);
    try {
      await createUnderlay(lab);
      await createPodNamespace(`weir-${lab.lab}--pod-default.a`);
      equal((await labNamespaces(lab.lab)).length, 5);
      for (
        const [from, to] of [
          [lab.nodes[0].netns, lab.nodes[1].ipv4],
          [lab.nodes[1].netns, lab.outside.ipv6],
          [lab.nodes[0].netns, lab.outside.worldIpv4[0]],
          [lab.nodes[0].netns, lab.outside.worldIpv6[0]],
        ]
      ) {
        const [program, ...args] = enter(from, ["ping", "-c1", "-W2", to]);
        match(await run(program, args), /1 received/);
      }
      const sleeper = new Deno.Command("nsenter", {
        args: [`--net=/run/netns/${lab.nodes[0].netns}`, "--", "sleep", "60"],
      }).spawn();
      await new Promise((resolve) => setTimeout(resolve, 200));
      equal((await processesIn(await labNamespaces(lab.lab))).includes(sleeper.pid), true);
      sleeper.kill("SIGKILL");
      await sleeper.status;
    } finally {
      await removeNamespaces(await labNamespaces(lab.lab));
    }
    equal((await labNamespaces(lab.lab)).length, 0);
  },
});
