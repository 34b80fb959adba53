/**
 * The cases of `generated_test.ts` without end: `deno task fuzz [--seed N] [--seconds N]`. A defect is printed
 * with its seed and the run goes on; the exit code is 1 when there was one.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Btf } from "@weir/object";
import { CaseRunner, Defect } from "./cases.ts";
import { FlowDefect, FlowRunner } from "./flow_cases.ts";
import { Subject } from "./subject.ts";
import { TracingCases, TracingDefect } from "./tracing_cases.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: { seed: { type: "string" }, seconds: { type: "string" }, verbose: { type: "boolean" } },
});
const firstSeed = Number(values.seed ?? Date.now() & 0x3fffffff);
const until = values.seconds === undefined ? Infinity : performance.now() + Number(values.seconds) * 1000;

const subject = new Subject();
const runner = new CaseRunner(subject);
const tracing = new TracingCases(subject, Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux")));
const flows = new FlowRunner(subject, true);
/** Flows are quick without the kernel, which is asked about one of so many. */
const flowsAlone = new FlowRunner(subject, false), FLOWS_A_SEED = 10;
const defects = new Map<string, number>();
console.log(`seed ${firstSeed}`);
let lastLine = performance.now();
for (let seed = firstSeed; performance.now() < until; seed++) {
  for (const kind of ["containment", "differential", "metamorphic", "pruning", "tracing", "flow"] as const) {
    try {
      if (kind === "tracing") tracing.compare(seed);
      else if (kind === "flow") compareFlows(seed);
      else runner[kind](seed);
    } catch (error) {
      if (!(error instanceof Defect || error instanceof TracingDefect || error instanceof FlowDefect)) {
        throw new Error(`${kind}, seed ${seed}`, { cause: error });
      }
      const key = error.message.replace(/^.*?seed \d+: /, "").replace(/0x[0-9a-f]+|-?\d+/g, "N");
      defects.set(key, (defects.get(key) ?? 0) + 1);
      // One cause has many programs: the first few of each are enough.
      if (defects.get(key)! <= 3) console.log(error.message);
    }
  }
  if (performance.now() - lastLine > 10_000) {
    lastLine = performance.now();
    console.log(`seed ${seed}: ${JSON.stringify(runner.counts)}, ${defects.size} kinds of defects`);
  }
}
/** The flow of the seed before all three, and more of them before the interpreter alone. */
function compareFlows(seed: number): void {
  for (let index = 0; index < FLOWS_A_SEED; index++) flowsAlone.survive(seed * FLOWS_A_SEED + index, 24);
  flows.survive(seed);
  if (seed % FLOWS_A_SEED === 0) flows.repeat(seed);
}

console.log(JSON.stringify(runner.counts));
console.log(
  `flows: ${JSON.stringify(flows.counts)}, without the kernel ${JSON.stringify(flowsAlone.counts)}`,
);
const { programs, accepted, refused, stricter } = tracing.counts;
console.log(`tracing: ${programs} programs, both accept ${accepted}, both refuse ${refused}`);
if (values.verbose) {
  for (const [key, count] of stricter) {
    console.log(`tracing stricter ${count} x ${key}`);
  }
}
for (const [key, count] of defects) console.log(`DEFECT ${count} x ${key}`);
if (values.verbose) {
  for (
    const [name, map] of [["stricter", runner.stricter], ["looser", runner.looser], [
      "undecided",
      runner.undecided,
    ]] as const
  ) {
    for (const [key, seeds] of [...map].sort(([, a], [, b]) => b.length - a.length).slice(0, 30)) {
      console.log(`${name} ${seeds.length} x ${key} (seed ${seeds[0]})`);
    }
  }
}
if (values.verbose) {
  for (const [key, seeds] of flows.finer) {
    console.log(`flow finer ${seeds.length} x ${key} (seed ${seeds[0]})`);
  }
  for (const [key, seeds] of flows.stricter) {
    console.log(`flow stricter ${seeds.length} x ${key} (seed ${seeds[0]})`);
  }
}
runner.close();
flows.close();
flowsAlone.close();
tracing.close();
subject.close();
Deno.exit(defects.size > 0 ? 1 : 0);
