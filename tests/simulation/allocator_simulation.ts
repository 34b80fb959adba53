/**
 * Identity allocators on one database in this process, asked over a network that loses, doubles and kills.
 * The seed decides every choice, so a failing seed is a whole report.
 * @module
 */
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { createIdentityAllocator } from "@weir/identity-allocator";
import { generator } from "./random.ts";
import { AllocateRequest, AllocateResponse } from "@weir/proto/identity";

/** How one run goes. */
export interface SimulationOptions {
  /** Decides every choice; 32 bits. */
  seed: number;
  /** How many things happen. */
  steps: number;
  /** An empty folder for the databases. */
  folder: string;
  /** A wrong world on purpose, to show that the checks notice it: each replica has a database of its own. */
  fault?: "databases-apart";
}

/** What one run showed. */
export interface SimulationResult {
  /** One line per step: the same for the same seed. */
  trace: string[];
  /** What does not hold, in the order found; empty when all is well. */
  violations: string[];
}

const REPLICAS = 2;
const LABEL_SETS = 24;

/** Runs `steps` choices of `seed` and compares every answer with all answers before. Starts nothing that outlives it. */
export async function simulateAllocators(options: SimulationOptions): Promise<SimulationResult> {
  const { seed, steps, folder, fault } = options;
  const random = generator(seed);
  const below = (count: number) => Math.floor(random() * count);
  const clock = new FakeClock();
  const numbers = new Map<string, number>(), labelsOf = new Map<number, string>();
  const trace: string[] = [], violations: string[] = [];

  const open = async (index: number) => {
    const database = new Database(`sqlite:${folder}/${fault === undefined ? 0 : index}.db`);
    const allocator = createIdentityAllocator({ database, clock, random });
    await allocator.start();
    const client = new WeirClient({
      handler: async (request: Request) => {
        const fate = below(10);
        if (fate === 0) throw new TypeError("simulated network: the request was lost");
        const again = fate === 1 ? request.clone() : undefined;
        const answer = await allocator.api.fetch(request);
        if (again !== undefined) await (await allocator.api.fetch(again)).arrayBuffer();
        if (fate === 2) throw new TypeError("simulated network: the answer was lost");
        return answer;
      },
    });
    return {
      client,
      close: async () => {
        await allocator.stop();
        await database.close();
      },
    };
  };
  const replicas = [];
  for (let index = 0; index < REPLICAS; index++) replicas.push(await open(index));

  try {
    for (let step = 0; step < steps; step++) {
      const index = below(REPLICAS);
      if (below(12) === 0) {
        await replicas[index].close();
        replicas[index] = await open(index);
        trace.push(`${step} restart ${index}`);
        continue;
      }
      const label = `k8s:app=${below(LABEL_SETS)}`, node = `node-${below(4)}`;
      const answer = await replicas[index].client.call("/v1/identities:allocate", {
        request: { message: AllocateRequest, value: { labels: [label], node, holder: label } },
        response: AllocateResponse,
      }).catch((error: Error) => error);
      if (answer instanceof Error) {
        trace.push(`${step} allocate ${index} ${label} failed`);
        continue;
      }
      const { number } = answer.identity!;
      trace.push(`${step} allocate ${index} ${label} ${number}`);
      const numberBefore = numbers.get(label), labelBefore = labelsOf.get(number);
      if (numberBefore !== undefined && numberBefore !== number) {
        violations.push(`Step ${step}: ${label} has number ${number}, and had ${numberBefore}`);
      }
      if (labelBefore !== undefined && labelBefore !== label) {
        violations.push(`Step ${step}: number ${number} is of ${label}, and was of ${labelBefore}`);
      }
      numbers.set(label, number);
      labelsOf.set(number, label);
    }
  } finally {
    for (const replica of replicas) await replica.close();
  }
  return { trace, violations };
}
