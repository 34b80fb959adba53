/**
 * Two revisions of the datapath in one run: their benches take turns, so that the neighbours' noise meets both. Run as
 * root, with another checkout that is built:
 *
 *     git worktree add ../before REVISION && (cd ../before && scripts/setup)
 *     sudo deno run -A tests/bench/datapath/compare.ts --before ../before [--turns N] [--repeat N]
 *
 * Shows per path the least net time of each, which noise disturbs least, and the ratio of the two.
 * @module
 */
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    before: { type: "string" },
    turns: { type: "string", default: "5" },
    repeat: { type: "string", default: "20000" },
  },
});
if (options.before === undefined) {
  console.error("Cannot compare: expected --before FOLDER, a checkout of the other revision that is built");
  Deno.exit(2);
}

/** Net ns by path. */
async function measure(folder: string): Promise<Map<string, number>> {
  const bench = "tests/bench/datapath/datapath_bench.ts";
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", bench, "--rounds", "3", "--repeat", options.repeat!, "--json"],
    cwd: folder,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`Cannot measure ${folder}: ${bench} failed there`);
  const { results } = JSON.parse(new TextDecoder().decode(stdout)) as {
    results: { name: string; net: number }[];
  };
  return new Map(results.map(({ name, net }) => [name, net]));
}

const least = { before: new Map<string, number>(), after: new Map<string, number>() };
function keep(side: Map<string, number>, measured: Map<string, number>): void {
  for (const [path, net] of measured) side.set(path, Math.min(net, side.get(path) ?? Infinity));
}
const turns = Number(options.turns);
for (let turn = 0; turn < turns; turn++) {
  keep(least.before, await measure(options.before));
  keep(least.after, await measure(new URL("../../../", import.meta.url).pathname));
}
console.log(
  `least net ns of ${turns} turns\n\n| path | before | after | ratio |\n|---|---|---|---|`,
);
for (const [path, after] of least.after) {
  const before = least.before.get(path);
  const ratio = before === undefined ? "-" : (after / before).toFixed(2);
  console.log(`| ${path} | ${before ?? "-"} | ${after} | ${ratio} |`);
}
