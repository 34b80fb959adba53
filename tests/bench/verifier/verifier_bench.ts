/**
 * Our verifier beside the kernel's, on the same programs, in one run.
 *
 * What it should show: in total and at the 95th percentile ours needs no more time than the kernel, and no
 * program needs more than 64 MiB; of small programs neither the median ratio nor the 95th percentile is above 1. The
 * first verification of the process, which opens and warms up everything, is counted apart. The kernel's own figure ("verification time") is compared with ours from
 * request to checked report, a fresh instance included; of each the least of several runs counts.
 *
 * ```text
 *  deno run -A tests/bench/verifier/verifier_bench.ts [--runs N] [--rows] [OBJECT...]
 * ```
 *
 * Without objects: those that Debian's packages ship, and the kernel selftests if they were fetched. Programs with global
 * functions, as the datapath's, do not belong here: the load has no BTF, so the kernel walks them at every call.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { BpfObject, Btf, type ObjectProgram, requestOf } from "@weir/object";
import { Kernel } from "../../../scripts/probe/kernel.ts";
import { KernelMaps, loadInKernel } from "../../verifier/kernel_object.ts";
import { providePackagedObjects } from "../../verifier/packaged_objects.ts";
import { Subject } from "../../verifier/subject.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;

/** One program that both accept. */
interface Row {
  readonly object: string;
  readonly program: string;
  readonly instructions: number;
  readonly kernelUs: number;
  readonly oursUs: number;
  /** The first of the runs, with nothing warm. */
  readonly kernelFirstUs: number;
  readonly oursFirstUs: number;
  readonly kernelVisits: number;
  readonly oursVisits: number;
  readonly memoryBytes: number;
  readonly fuel: number;
}

const { values, positionals } = parseArgs({
  args: Deno.args,
  options: { runs: { type: "string", default: "3" }, rows: { type: "boolean", default: false } },
  allowPositionals: true,
});
const runs = Number(values.runs);

if (!Kernel.available()) {
  console.log("SKIP verifier benchmark: this process may not load eBPF programs");
  Deno.exit(0);
}
/** An object file, and the type of its programs where it does not say it. */
interface Input {
  readonly path: string;
  readonly type?: string;
}
const inputs: Input[] = positionals.length > 0
  ? positionals.map((path) => ({ path }))
  : await defaultObjects();
const kernel = new Kernel();
const subject = new Subject();
const kernelBtf = Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
const groups = new Map<string, Row[]>();
console.log(`first verification of the process: ${(firstRun() / 1000).toFixed(1)} ms`);
let refused = 0, unasked = 0;
try {
  for (const { path, type } of inputs) {
    const group = path.includes("/selftests/") ? "selftests" : "packages";
    const rows = groups.get(group) ?? [];
    groups.set(group, rows);
    rows.push(...measureObject(path, type));
  }
} finally {
  kernel.close();
  subject.close();
}
for (const [group, rows] of groups) if (rows.length > 0) print(group, rows);
print("all", [...groups.values()].flat());
console.log(
  `${refused} programs that the kernel accepts and ours does not; ${unasked} that the kernel could not be asked about or refuses`,
);

async function defaultObjects(): Promise<Input[]> {
  const found: string[] = [];
  const dir = `${ROOT}.build/selftests/6.12/obj`;
  try {
    for (const entry of Deno.readDirSync(dir)) {
      if (entry.name.endsWith(".o")) found.push(`${dir}/${entry.name}`);
    }
  } catch {
    console.log(`SKIP ${dir}: not there`);
  }
  const { objects, missing } = await providePackagedObjects();
  for (const name of missing) console.log(`SKIP package ${name}: it cannot be downloaded`);
  return [...found.sort().map((path) => ({ path })), ...objects];
}

/** Verifies the smallest program, which warms up what all share. */
function firstRun(): number {
  const exit = new Uint8Array([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  const request = { name: "first", programType: 1, gplCompatible: true, instructions: exit };
  return subject.verifyRequest(request).report!.timeUs;
}

function measureObject(path: string, type?: string): Row[] {
  let object: BpfObject;
  try {
    object = BpfObject.parse(Deno.readFileSync(path), { kernelBtf, type });
  } catch (error) {
    console.log(`  ${path}: ${(error as Error).message}`);
    return [];
  }
  const maps = new KernelMaps(kernel, object);
  try {
    return object.programs.map((program) => measureProgram(path, object, maps, program)).filter((row) =>
      row !== null
    );
  } finally {
    maps.close();
  }
}

function measureProgram(
  path: string,
  object: BpfObject,
  maps: KernelMaps,
  program: ObjectProgram,
): Row | null {
  let kernelUs = Infinity, kernelVisits = 0, oursUs = Infinity, kernelFirstUs = 0, oursFirstUs = 0;
  let request;
  try {
    request = requestOf(object, program).request;
  } catch {
    unasked++;
    return null;
  }
  for (let run = 0; run < runs; run++) {
    const loaded = loadInKernel(maps, program, object.assemble(program), { logLevel: 4 });
    if (loaded?.ok !== true) {
      unasked++;
      return null;
    }
    kernel.closeFd(loaded.fd);
    const us = Number(/verification time (\d+) usec/.exec(loaded.log)?.[1] ?? loaded.timeUs);
    if (run === 0) kernelFirstUs = us;
    kernelUs = Math.min(kernelUs, us);
    kernelVisits = Number(/processed (\d+) insns/.exec(loaded.log)?.[1] ?? 0);
    // A program that takes seconds need not be loaded again and again.
    if (kernelUs > 1_000_000) break;
  }
  let report = null;
  for (let run = 0; run < runs; run++) {
    const verdict = subject.verifyRequest(request);
    if (verdict.verdict !== "accepted" || verdict.report === null) {
      refused++;
      return null;
    }
    report = verdict.report;
    if (run === 0) oursFirstUs = report.timeUs;
    oursUs = Math.min(oursUs, report.timeUs);
    if (oursUs > 1_000_000) break;
  }
  return {
    object: path.slice(path.lastIndexOf("/") + 1),
    program: program.name,
    instructions: request.instructions.length / 8,
    kernelUs: Math.max(kernelUs, 1),
    oursUs,
    kernelFirstUs: Math.max(kernelFirstUs, 1),
    oursFirstUs,
    kernelVisits,
    oursVisits: report!.visits,
    memoryBytes: report!.memoryBytes,
    fuel: Number(report!.fuelUsed),
  };
}

function print(group: string, rows: readonly Row[]): void {
  if (rows.length === 0) return;
  const sum = (of: (row: Row) => number) => rows.reduce((total, row) => total + of(row), 0);
  const at = (share: number, of: (row: Row) => number) => {
    const sorted = rows.map(of).sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  };
  const ms = (us: number) => (us / 1000).toFixed(2);
  const ratio = (ours: number, theirs: number) => `${(ours / theirs).toFixed(2)}x`;
  const kernelTotal = sum((row) => row.kernelUs), oursTotal = sum((row) => row.oursUs);
  const kernel95 = at(0.95, (row) => row.kernelUs), ours95 = at(0.95, (row) => row.oursUs);
  console.log(`${group}: ${rows.length} programs, ${sum((row) => row.instructions)} instructions`);
  console.log(
    `  total            kernel ${ms(kernelTotal)} ms, ours ${ms(oursTotal)} ms: ${
      ratio(oursTotal, kernelTotal)
    }`,
  );
  console.log(
    `  95th percentile  kernel ${ms(kernel95)} ms, ours ${ms(ours95)} ms: ${ratio(ours95, kernel95)}`,
  );
  const each = (share: number) => at(share, (row) => row.oursUs / row.kernelUs).toFixed(2);
  console.log(`  ratio of each    median ${each(0.5)}x, 95th percentile ${each(0.95)}x, most ${each(1)}x`);
  const first = (share: number) => at(share, (row) => row.oursFirstUs / row.kernelFirstUs).toFixed(2);
  console.log(
    `  median           kernel ${at(0.5, (row) => row.kernelUs)} us, ours ${
      at(0.5, (row) => row.oursUs).toFixed(0)
    } us; of first runs: median ratio ${first(0.5)}x, 95th percentile ${first(0.95)}x`,
  );
  console.log(
    `  visits           kernel ${sum((row) => row.kernelVisits)}, ours ${sum((row) => row.oursVisits)}; ` +
      `${(sum((row) => row.oursVisits) / (oursTotal / 1e6) / 1e6).toFixed(2)} M/s, ` +
      `${Math.round(sum((row) => row.fuel) / Math.max(1, sum((row) => row.oursVisits)))} fuel a visit`,
  );
  const mebibytes = (share: number) => (at(share, (row) => row.memoryBytes) / 1048576).toFixed(1);
  console.log(`  memory           median ${mebibytes(0.5)} MiB, most ${mebibytes(1)} MiB (aim: below 64)`);
  if (!values.rows) return;
  const show = (title: string, rank: (row: Row) => number) => {
    console.log(`  ${title}`);
    for (const row of [...rows].sort((a, b) => rank(b) - rank(a)).slice(0, 20)) showRow(row, ms);
  };
  show("slowest", (row) => row.oursUs);
  show("furthest behind the kernel", (row) => row.oursUs / row.kernelUs);
}

function showRow(row: Row, ms: (us: number) => string): void {
  console.log(
    `    ${row.object} ${row.program}: kernel ${ms(row.kernelUs)} ms, ours ${
      ms(row.oursUs)
    } ms, visits ${row.kernelVisits} and ${row.oursVisits}, fuel ${row.fuel}`,
  );
}
