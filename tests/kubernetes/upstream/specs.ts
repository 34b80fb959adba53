/**
 * Upstream's end-to-end tests of the network, run against a cluster: which there are, which are left out, and what became of
 * each.
 * @module
 */
import type { Cluster } from "../cluster/cluster.ts";
import type { Cache } from "../cluster/layout.ts";
import { ok } from "../cluster/process.ts";
import { REGISTRY } from "../parts/images.ts";
import { leftOut, type Surroundings } from "./left_out.ts";
import { readReport, type SpecResult } from "./report.ts";

/** Program with the specs, below the cache's `bin`. */
const SPECS = "e2e-net.test";

/** Specs that match, and what is left out of them. */
export interface Choice {
  /** Names of specs to run. */
  chosen: string[];
  leftOut: { name: string; why: string }[];
}

export interface SpecOptions {
  /** Specs at once; default 2. */
  procs?: number;
  /** Whole run; default 60. What runs then fails. */
  minutes?: number;
  /** Told of each spec as it ends. */
  say?: (text: string) => void;
}

/** What a cluster is to its specs. */
export function surroundingsOf({ options }: Pick<Cluster, "options">): Surroundings {
  const sctp = /^SCTP /m.test(Deno.readTextFileSync("/proc/net/protocols"));
  return { dualStack: options.dualStack, sctp, kubeProxy: options.cni === "reference" };
}

/** Which specs there are whose names match one of these regular expressions; all of the network with none. */
export async function chooseSpecs(
  cache: Cache,
  focus: readonly string[],
  surroundings: Surroundings,
): Promise<Choice> {
  const listed = await ok([`${cache.bin}/${SPECS}`, "--list-tests"], { env: await environment(cache) });
  const wanted = focus.map((pattern) => new RegExp(pattern)), out = leftOut(surroundings);
  const choice: Choice = { chosen: [], leftOut: [] };
  for (const line of listed.split("\n")) {
    const name = /^\s*\S+\.go:\d+: (\[sig-network\] .*)$/.exec(line)?.[1];
    if (name === undefined || wanted.length > 0 && !wanted.some((pattern) => pattern.test(name))) continue;
    const why = out.find(({ pattern }) => new RegExp(pattern).test(name))?.why;
    if (why === undefined) choice.chosen.push(name);
    else choice.leftOut.push({ name, why });
  }
  return choice;
}

/**
 * Runs specs. Everything that they say goes to `logs/e2e.log` in the cluster's folder.
 * @returns what became of each that ran
 * @throws where they end without a report
 */
export async function runSpecs(
  cluster: Cluster,
  focus: readonly string[],
  options: SpecOptions = {},
): Promise<SpecResult[]> {
  const { procs = 2, minutes = 60, say = () => {} } = options;
  const { cache, directory } = cluster, report = `${directory}/e2e.json`;
  await Deno.remove(report).catch(() => {});
  // By their names: ginkgo has no way to say "of the network, and one of these".
  const { chosen } = await chooseSpecs(cache, focus, surroundingsOf(cluster));
  if (chosen.length === 0) return [];
  const names = chosen.map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|");
  const ginkgo = [
    ...["ginkgo", `--procs=${procs}`, "--no-color", "-v", "--silence-skips", `--timeout=${minutes}m`],
    `--focus=(${names})$`,
    ...[`--output-dir=${directory}`, "--json-report=e2e.json", `${cache.bin}/${SPECS}`, "--"],
    ...["--provider=skeleton", `--kubeconfig=${cluster.kubeconfig}`, `--kubectl-path=${cache.bin}/kubectl`],
    ...["--disable-log-dump", `--num-nodes=${cluster.options.nodes}`],
  ];
  const [command, ...args] = cluster.inNetwork(ginkgo);
  const child = new Deno.Command(command, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    // Where its list of images is, and its own work.
    env: await environment(cache),
    cwd: directory,
  }).spawn();
  using log = await Deno.create(`${directory}/logs/e2e.log`);
  const encoder = new TextEncoder();
  const follow = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    let rest = "", ended = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      await log.write(encoder.encode(text));
      const lines = (rest + text).split("\n");
      rest = lines.pop()!.slice(-10_000);
      for (const line of lines) {
        if (ended !== "" && line.startsWith("[")) say(`${ended} ${nameOf(line)}`);
        ended = endOf(line);
      }
    }
  };
  await Promise.all([follow(child.stdout), follow(child.stderr), child.status]);
  try {
    return readReport(await Deno.readTextFile(report));
  } catch (error) {
    throw new Error(`Cannot read what became of the specs: see ${directory}/logs/e2e.log`, { cause: error });
  }
}

/** How a spec ended, from the line with which ginkgo begins what it says of one; empty for other lines. */
function endOf(line: string): string {
  const [, , state, seconds] = /^(•|S|P) (?:\[([A-Z ]+)\] )?\[([\d.]+) seconds\]$/.exec(line) ?? [];
  return seconds === undefined
    ? ""
    : `${(state ?? "passed").toLowerCase().padEnd(7)} ${Number(seconds).toFixed(1).padStart(6)} s `;
}

/** A spec's name without where in it it failed and without its labels. */
function nameOf(line: string): string {
  return line.replace(" [It]", "").replace(/ \[sig-network(, [^\]]*)?\]$/, "");
}

/** Tells the specs that images have our host for theirs. */
async function environment(cache: Cache): Promise<Record<string, string>> {
  const file = `${cache.directory}/registries.yaml`;
  await Deno.writeTextFile(file, `promoterE2eRegistry: ${REGISTRY}/e2e\ngcRegistry: ${REGISTRY}\n`);
  return { KUBE_TEST_REPO_LIST: file };
}
