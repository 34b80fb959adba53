/**
 * Two revisions of the datapath in one run: their benches take turns, so that the neighbours' noise meets both. Run as
 * root, with another checkout that is built:
 *
 *     git worktree add ../before REVISION && (cd ../before && scripts/setup)
 *     sudo deno run -A tests/bench/datapath/compare.ts --before ../before [--bench datapath|service|north_south]
 *         [--turns N] [-- OPTIONS OF THE BENCH]
 *
 * Both are measured by this checkout's bench: for the run it lies beside the other's own. Shows per path the least net time
 * of each, which noise disturbs least (many short turns find it sooner than few long ones), and the ratio of the two.
 * @module
 */
import { parseArgs } from "node:util";

const { values: options, positionals } = parseArgs({
  options: {
    before: { type: "string" },
    bench: { type: "string", default: "datapath" },
    turns: { type: "string", default: "5" },
  },
  allowPositionals: true,
});
const BENCHES = ["datapath", "service", "north_south"];
if (options.before === undefined || !BENCHES.includes(options.bench)) {
  console.error(
    "Cannot compare: expected --before FOLDER, a checkout of the other revision that is built, and --bench " +
      BENCHES.join("|"),
  );
  Deno.exit(2);
}
const SHORT = ["--rounds", "15", "--repeat", "5000"];

/** Net ns by path, of the bench at `path` in the checkout `folder`. */
async function measure(folder: string, path: string): Promise<Map<string, number>> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", path, ...SHORT, ...positionals, "--json"],
    cwd: folder,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`Cannot measure ${folder}: ${path} failed there`);
  // The last line: what is above it is for people.
  const line = new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1)!;
  const { results } = JSON.parse(line) as { results: { name: string; least: number }[] };
  return new Map(results.map(({ name, least }) => [name, least]));
}

const least = { before: new Map<string, number>(), after: new Map<string, number>() };
function keep(side: Map<string, number>, measured: Map<string, number>): void {
  for (const [path, net] of measured) side.set(path, Math.min(net, side.get(path) ?? Infinity));
}
const room = "tests/bench/datapath", bench = `${room}/${options.bench}_bench.ts`;
const guest = `${room}/compare_${options.bench}_bench.ts`;
const turns = Number(options.turns);
await Deno.copyFile(new URL(`${options.bench}_bench.ts`, import.meta.url), `${options.before}/${guest}`);
try {
  for (let turn = 0; turn < turns; turn++) {
    keep(least.before, await measure(options.before, guest));
    keep(least.after, await measure(new URL("../../../", import.meta.url).pathname, bench));
  }
} finally {
  await Deno.remove(`${options.before}/${guest}`);
}
console.log(
  `least net ns of ${turns} turns\n\n| path | before | after | ratio |\n|---|---|---|---|`,
);
for (const [path, after] of least.after) {
  const before = least.before.get(path);
  const ratio = before === undefined ? "-" : (after / before).toFixed(2);
  console.log(`| ${path} | ${before ?? "-"} | ${after} | ${ratio} |`);
}
