/**
 * Shows one seed's program as the kernel saw it, and what ours claims where the kernel stopped:
 * `deno run -A tests/verifier/explain.ts SEED [ROUND]` (round 0 is the program itself, later ones its mutations).
 *
 * @module
 */

import { CaseRunner } from "./cases.ts";
import { Subject } from "./subject.ts";

const subject = new Subject();
const runner = new CaseRunner(subject);
const { type, ours, log } = runner.explain(Number(Deno.args[0]), Number(Deno.args[1] ?? 0));
console.log(log.split("\n").slice(-Number(Deno.args[2] ?? 60)).join("\n"));
console.log(`${type}; ours: ${ours.verdict} ${ours.message}`);
const stop = Number([...log.matchAll(/^(\d+): \(/gm)].at(-1)?.[1] ?? -1);
const claim = ours.report?.claims.find((claim) => claim.instruction === stop);
for (const [register, value] of (claim?.registers ?? []).entries()) {
  if (value.kind === "uninitialised") continue;
  const { kind, offset, range, umin, umax, smin, smax, bits, unknown } = value;
  console.log(
    `ours before ${stop}: R${register} ${kind} offset ${offset} range ${range} u ${umin}..${umax} s ${smin}..${smax} ` +
      `bits 0x${bits.toString(16)} unknown 0x${unknown.toString(16)}`,
  );
}
runner.close();
subject.close();
