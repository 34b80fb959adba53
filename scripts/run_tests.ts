/**
 * Runs the repository's checks and tests in groups, one after another, and sums up. The last line is
 * `N passed, N failed`; the exit code is 1 when anything failed.
 * @module
 */

interface Group {
  name: string;
  /** What it shows, in a few words. */
  says: string;
  /** A check passes or fails as a whole; tests are counted from what the runner prints. */
  kind: "check" | "tests";
  args: string[];
}

const DENO_TEST = ["test", "-A", "--no-check", "--quiet"];
const tests = (name: string, says: string, ...paths: string[]): Group => ({
  name,
  says,
  kind: "tests",
  args: [...DENO_TEST, ...paths],
});

const groups: Group[] = [
  { name: "fmt", says: "formatting", kind: "check", args: ["fmt", "--check", "--quiet"] },
  { name: "lint", says: "lint", kind: "check", args: ["lint", "--quiet"] },
  {
    name: "generate",
    says: "generated code is up to date",
    kind: "check",
    args: ["run", "-A", "scripts/generate.ts", "--check"],
  },
  {
    name: "types",
    says: "strict type check",
    kind: "check",
    args: ["check", "--quiet", ...checkedPaths()],
  },
  tests("unit", "proto, services, scripts, import direction", "proto", "services", "scripts"),
  tests(
    "verifier",
    "verifier, object reader, reports, sandbox",
    "datapath/verifier",
    "datapath/object",
    "datapath/report",
    "datapath/sandbox",
  ),
  tests(
    "kernel",
    "loader, maps, devices, datapath service",
    "datapath/loader",
    "datapath/maps",
    "datapath/net",
    "datapath/service",
  ),
  tests("datapath", "packets through the real programs", "tests/datapath"),
  tests("conformance", "policy cases of other implementations", "tests/conformance"),
  tests("selftests", "kernel selftests, fuzzers", "tests/verifier"),
  tests("e2e", "two nodes, forty pods", "tests/e2e"),
  tests("faults", "killed, full, broken, gone", "tests/faults"),
];

/** Everything but the verifier's module: AssemblyScript has types of its own, and its compiler checks them. */
function checkedPaths(): string[] {
  const { workspace } = JSON.parse(Deno.readTextFileSync("deno.json")) as { workspace: string[] };
  return [...workspace.map((p) => p === "./datapath/verifier" ? `${p}/*.ts` : p), "datapath/bpf", "scripts"];
}

function hasTests(paths: string[]): boolean {
  const walk = (dir: string): boolean => {
    try {
      for (const e of Deno.readDirSync(dir)) {
        if (e.isDirectory ? walk(`${dir}/${e.name}`) : e.name.endsWith("_test.ts")) return true;
      }
    } catch { /* no such folder */ }
    return false;
  };
  return paths.some(walk);
}

async function run(group: Group): Promise<{ passed: number; failed: number }> {
  const child = new Deno.Command("deno", {
    args: group.args,
    stdout: "piped",
    stderr: "inherit",
    env: { NO_COLOR: "1" },
  }).spawn();
  let tail = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    Deno.stdout.writeSync(chunk);
    tail = (tail + decoder.decode(chunk, { stream: true })).slice(-4000);
  }
  const { success } = await child.status;
  if (group.kind === "check") return success ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
  const found = [...tail.matchAll(/(\d+) passed(?: \([^)]*\))? \| (\d+) failed/g)].at(-1);
  const passed = Number(found?.[1] ?? 0), failed = Number(found?.[2] ?? 0);
  return { passed, failed: success ? failed : Math.max(failed, 1) };
}

if (Deno.args.includes("--list")) {
  for (const g of groups) console.log(`${g.name.padEnd(12)} ${g.says}`);
  Deno.exit(0);
}
const unknown = Deno.args.filter((a) => !groups.some((g) => g.name === a));
if (unknown.length > 0) {
  console.error(`Unknown group ${unknown.join(", ")}: expected ${groups.map((g) => g.name).join(", ")}`);
  Deno.exit(2);
}
const selected = groups.filter((g) => Deno.args.length === 0 || Deno.args.includes(g.name));
let passed = 0, failed = 0;
const rows: string[] = [];
for (const group of selected) {
  if (group.kind === "tests" && !hasTests(group.args.slice(DENO_TEST.length))) continue;
  console.log(`\n== ${group.name}: ${group.says}`);
  const start = performance.now();
  const result = await run(group);
  passed += result.passed;
  failed += result.failed;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  rows.push(
    `${group.name.padEnd(12)} ${String(result.passed).padStart(5)} passed ${
      String(result.failed).padStart(3)
    } failed  ${seconds} s`,
  );
}
console.log(`\n${rows.join("\n")}\n\n${passed} passed, ${failed} failed`);
Deno.exit(failed > 0 ? 1 : 0);
