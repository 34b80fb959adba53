/**
 * Waits until the policies that the engine has now are in force in the kernel of every node.
 *
 *     deno run -A scripts/wait-policy.ts [--lab NAME] [--timeout SECONDS]
 *
 * Exits with 0 and the time it took, or with 1 and what is still missing.
 *
 * @module
 */
import { clientOf, CommandContext, parse, processIo, takeGlobalFlags, text } from "@weir/cli";
import { EngineRevision } from "@weir/proto/policy";
import { differences } from "./compare-state.ts";

const { flags, rest } = takeGlobalFlags(Deno.args);
const timeoutS = Number(text(parse(rest, { timeout: { type: "string" } }), "timeout") ?? 30);
const context = new CommandContext(processIo(), flags);

const engine = clientOf(context, "policy-engine");
const { policyRevision } = await engine.call("/v1/revision", { method: "GET", response: EngineRevision });
engine.close();

const startedMs = performance.now();
let missing: string[];
while (true) {
  missing = await differences(context).catch((error: Error) => [error.message]);
  if (missing.length === 0 || performance.now() - startedMs > timeoutS * 1000) break;
  await new Promise((resolve) => setTimeout(resolve, 50));
}
if (missing.length > 0) {
  for (const line of missing) console.log(line);
  console.log(`policy revision ${policyRevision} is not in force everywhere after ${timeoutS} s`);
  Deno.exit(1);
}
const nodes = context.nodes().map((target) => target.node).join(" and ");
console.log(
  `policy revision ${policyRevision} is in force on ${nodes} (${
    Math.round(performance.now() - startedMs)
  } ms)`,
);
Deno.exit(0);
