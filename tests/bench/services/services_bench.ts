/**
 * Connections through services, with 1 to 10,000 of them, the probed one last: through Weir, through iptables rules of the
 * shape that kube-proxy writes, and through nftables maps, in turns within one run; and what one changed backend costs.
 * What it should show is in README.md.
 *
 *     deno run -A tests/bench/services/services_bench.ts [--sizes 1,100,1000,5000,10000] [--rounds 8] [--ms 150]
 *         [--changes 5] [--iptables legacy|nft] [--only weir,iptables,nftables] [--json FILE]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { run } from "../../e2e/weir.ts";
import { type KubeKind, type KubePath, kubePath, routedPath } from "./kube_path.ts";
import { has, must, Places } from "./namespaces.ts";
import { measure, median, type Path } from "./path.ts";
import { printChanges, printLoads, printTraffic } from "./report.ts";
import { WeirServices } from "./weir_path.ts";

const { values: flags } = parseArgs({
  args: Deno.args,
  options: {
    sizes: { type: "string", default: "1,100,1000,5000,10000" },
    rounds: { type: "string", default: "8" },
    ms: { type: "string", default: "150" },
    changes: { type: "string", default: "5" },
    iptables: { type: "string", default: "legacy" },
    only: { type: "string", default: "weir,iptables,nftables" },
    json: { type: "string", default: "" },
  },
});
const sizes = flags.sizes.split(",").map(Number).sort((a, b) => a - b);
const [rounds, ms, changes] = [Number(flags.rounds), Number(flags.ms), Number(flags.changes)];
const only = new Set(flags.only.split(","));

/** The first C compiler there is. */
async function compiler(): Promise<string | undefined> {
  for (const name of ["cc", "gcc", "clang", "clang-19"]) if (await has(name)) return name;
}

/** Kinds of rules that this machine can load; what is missing is said. */
async function kinds(): Promise<KubeKind[]> {
  const wanted: [string, KubeKind, string][] = [
    ["iptables", flags.iptables === "nft" ? "iptables-nft" : "iptables-legacy", "iptables"],
    ["nftables", "nftables", "nft"],
  ];
  const found: KubeKind[] = [];
  for (const [group, kind, program] of wanted) {
    if (!only.has(group)) continue;
    if (await has(kind === "nftables" ? "nft" : `${kind}-restore`)) found.push(kind);
    else console.log(`SKIP ${group}: ${program} is not installed`);
  }
  return found;
}

if (Deno.uid() !== 0) {
  console.log("SKIP: namespaces and rules need root");
  Deno.exit(0);
}
const cc = await compiler();
if (cc === undefined) {
  console.log("SKIP: no C compiler for the load generator");
  Deno.exit(0);
}
const directory = await Deno.makeTempDir({ prefix: "weir-bench-" });
const load = `${directory}/load`;
const places = new Places(load);
const weir = new WeirServices(places);
async function cleanUp(): Promise<void> {
  await weir.down();
  await places.dispose();
  await run("rm", ["-rf", directory]);
}
// `finally` does not run for a process that is ended from outside.
for (const name of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(name, () => void cleanUp().finally(() => Deno.exit(130)));
}
try {
  await must(cc, ["-O2", "-o", load, new URL("load.c", import.meta.url).pathname]);
  const kube = new Map<number, KubePath[]>(sizes.map((size) => [size, []]));
  for (const kind of await kinds()) {
    for (const size of sizes) kube.get(size)!.push(await kubePath(places, kind, size));
  }
  const routed = await routedPath(places);
  const useWeir = only.has("weir") && await weir.up();
  const groups: { size: number; paths: Path[] }[] = [];
  for (const size of sizes) {
    // One Weir, which grows from size to size; the others have their own rules for each.
    const own = useWeir ? [weir.pods(), await weir.grow(size)] : [];
    const paths: Path[] = [...own, { ...routed, samples: [], changes: [] }, ...kube.get(size)!];
    for (let round = 0; round < rounds; round++) {
      for (const path of paths) await measure(path, load, ms);
    }
    for (let i = 0; i < 2 * Math.ceil(changes / 2); i++) {
      for (const path of paths) if (path.change) path.changes.push(await path.change());
    }
    // What is quick is dear by its first times only: more of them.
    for (const path of paths) {
      const quick = path.change && median(path.changes.map((c) => c.ms)) < 30;
      for (let i = 0; quick && i < 6 * changes; i++) path.changes.push(await path.change!());
    }
    groups.push({ size, paths });
  }
  printTraffic(groups);
  printChanges(groups);
  printLoads(sizes.map((size) => ({ size, kube: kube.get(size)!, weir: weir.loads.get(size) })));
  if (flags.json !== "") {
    await Deno.writeTextFile(flags.json, JSON.stringify({ groups, loads: [...weir.loads] }));
  }
} finally {
  await cleanUp();
}
Deno.exit(0);
