/**
 * The policy engine's repository and tables with many rules and identities: what loading, one identity more and one rule
 * changed cost, with and without clusterwide rules; beside another version of the tree in the same run.
 *
 *     deno run -A tests/bench/control/policy.ts [--before FOLDER] [--identities 10000] [--rules 1000] [--clusterwide 10]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { compare, type Row } from "./compare.ts";
import type { PolicyFigures } from "./policy_child.ts";

const ROWS: readonly Row<PolicyFigures>[] = [
  ["loadCpuMs", "load identities and rules, CPU", "ms"],
  ["loadedMib", "heap of what was loaded", "MiB"],
  ["identityCpuMs", "one identity more, CPU", "ms"],
  ["ruleCpuMs", "one rule changed, CPU", "ms"],
  ["syncCpuMs", "all clients read all their map states, CPU of encoding", "ms"],
  ["syncMib", "heap after that", "MiB"],
  ["entries", "entries that they read", ""],
  ["clusterwideCpuMs", "clusterwide rules put in besides, CPU", "ms"],
  ["clusterwideMib", "heap with them", "MiB"],
  ["clusterwideIdentityCpuMs", "one identity more with them, CPU", "ms"],
  ["clusterwideRuleCpuMs", "one other rule changed with them, CPU", "ms"],
  ["clusterwideChangeCpuMs", "one of them changed, CPU", "ms"],
  ["nodeCpuMs", "one client's map states with them, encoded whole, CPU", "ms"],
  ["clientCpuMs", "one client reads them over the API, CPU of both ends", "ms"],
  ["clientMib", "what it receives", "MiB"],
  ["clientChangeCpuMs", "one identity more until it has that, CPU of both ends", "ms"],
  ["clientChangeMib", "what it receives then", "MiB"],
];

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      before: { type: "string" },
      identities: { type: "string", default: "10000" },
      rules: { type: "string", default: "1000" },
      clusterwide: { type: "string", default: "10" },
      clients: { type: "string", default: "100" },
      "timeout-s": { type: "string", default: "120" },
    },
  });
  await compare<PolicyFigures>({
    child: new URL("./policy_child.ts", import.meta.url),
    load: {
      identities: Number(values.identities),
      rules: Number(values.rules),
      clusterwide: Number(values.clusterwide),
      clients: Number(values.clients),
    },
    rows: ROWS,
    before: values.before,
    beforeTimeoutS: Number(values["timeout-s"]),
  });
}
