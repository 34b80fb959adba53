/** What holds in every simulated run of the allocators, and that the checks notice when it does not. @module */
import assert from "node:assert/strict";
import { simulateAllocators, type SimulationOptions, type SimulationResult } from "./allocator_simulation.ts";

async function run(options: Omit<SimulationOptions, "folder">): Promise<SimulationResult> {
  const folder = await Deno.makeTempDir({ prefix: `weir-simulation-${Deno.pid}-` });
  try {
    return await simulateAllocators({ ...options, folder });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("two allocators give one number per label set over a network that loses and doubles", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const { trace, violations } = await run({ seed, steps: 120 });
    assert.deepEqual(violations, [], `seed ${seed}:\n${trace.slice(-20).join("\n")}`);
    assert.ok(
      trace.some((line) => line.includes("restart")) && trace.some((line) => line.endsWith("failed")),
    );
  }
});

Deno.test("the same seed gives the same trace", async () => {
  const options = { seed: 42, steps: 120 };
  assert.deepEqual((await run(options)).trace, (await run(options)).trace);
});

Deno.test("the simulation notices allocators that do not share a database", async () => {
  assert.notDeepEqual((await run({ seed: 1, steps: 120, fault: "databases-apart" })).violations, []);
});
