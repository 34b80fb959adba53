/** `deno task simulate [--seed N] [--seeds N] [--steps N] [--replicas N] [--services]`: runs of the simulated cluster; ends with 1 when one fails. @module */
import { parseArgs } from "node:util";
import { simulateCluster } from "./cluster_simulation.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    steps: { type: "string", default: "100" },
    replicas: { type: "string", default: "1" },
    services: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
  },
});
const first = Number(values.seed), seeds = Number(values.seeds), steps = Number(values.steps);
const replicas = Number(values.replicas);
if (![first, seeds, steps, replicas - 1].every((number) => Number.isInteger(number) && number >= 0)) {
  console.error("Cannot simulate: --seed, --seeds and --steps are whole numbers from 0, --replicas from 1");
  Deno.exit(2);
}
let failed = 0;
for (let seed = first; seed < first + seeds; seed++) {
  const folder = await Deno.makeTempDir({ prefix: "weir-simulation-" });
  try {
    const { trace, violations, tried, denied } = await simulateCluster({
      seed,
      steps,
      folder,
      replicas,
      services: values.services,
    });
    if (values.trace || violations.length > 0) console.log(trace.join("\n"));
    for (const violation of violations) console.log(`seed ${seed}: ${violation}`);
    if (violations.length > 0) failed++;
    else {console.log(
        `seed ${seed}: well, ${trace.length} steps, ${tried} connections tried, ${denied} denied`,
      );}
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
Deno.exit(failed > 0 ? 1 : 0);
