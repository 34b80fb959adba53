/**
 * Runs the repository's checks and tests in groups, and sums up. Groups that run packets through programs have surroundings
 * of their own and run beside the others, where the machine lets them. The last line is `N passed, N failed`; the exit code
 * is 1 when anything failed.
 * @module
 */

import { availableParallelism } from "node:os";

interface Group {
  name: string;
  /** What it shows, in a few words. */
  says: string;
  /** A check passes or fails as a whole; tests are counted from what the runner prints. */
  kind: "check" | "tests";
  args: string[];
  /** Needs no network and nothing of the other groups: it may run beside them, in the lane of this name. */
  beside?: "packets" | "labs";
  /** Runs only when it is named: it takes long. */
  onlyNamed?: boolean;
  /** What has to be there first: a script that begins with the run, in the background, and is waited for. */
  needs?: string;
}

const DENO_TEST = ["test", "-A", "--no-check", "--quiet"];
const tests = (name: string, says: string, ...paths: string[]): Group => ({
  name,
  says,
  kind: "tests",
  args: [...DENO_TEST, ...paths],
});
/** Its files share nothing of the machine, so that as many of them run at once as there are processors. */
const atOnce = (group: Group): Group => ({ ...group, args: [...group.args, "--parallel"] });

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
  atOnce(tests("unit", "proto, services, scripts, import direction", "proto", "services", "scripts")),
  atOnce(tests(
    "verifier",
    "verifier, object reader, reports, sandbox",
    "datapath/verifier",
    "datapath/object",
    "datapath/report",
    "datapath/sandbox",
  )),
  {
    ...tests(
      "kernel",
      "loader, maps, devices, datapath service",
      "datapath/loader",
      "datapath/maps",
      "datapath/net",
      "datapath/service",
    ),
    beside: "packets",
  },
  { ...tests("datapath", "packets through the real programs", "tests/datapath"), beside: "packets" },
  atOnce(tests("conformance", "policy cases of other implementations", "tests/conformance")),
  tests(
    "simulation",
    "services in one process over a seeded, faulty network; a hundred simulated nodes against real services",
    "tests/simulation",
    "tests/scale",
  ),
  tests("selftests", "kernel selftests, fuzzers", "tests/verifier"),
  tests("e2e", "two nodes, forty pods", "tests/e2e"),
  {
    ...tests("hubble", "the real hubble command", "tests/hubble"),
    needs: "tests/hubble/build-client",
  },
  {
    ...tests("monitoring", "alerts, dashboards and metrics with the real Prometheus", "tests/monitoring"),
    needs: "tests/monitoring/fetch-prometheus",
  },
  {
    ...tests("cassandra", "CQL rules between a real Cassandra and its real clients", "tests/cassandra"),
    needs: "tests/cassandra/build",
  },
  {
    ...tests("kafka", "rules between a real Kafka broker and its real clients", "tests/kafka"),
    needs: "tests/kafka/build",
  },
  {
    ...tests("memcached", "rules between a real memcached and its real clients", "tests/memcached"),
    needs: "tests/memcached/build",
  },
  {
    ...tests("http2", "HTTP/2, gRPC and WebSocket between real clients and servers", "tests/http2"),
    needs: "tests/http2/build",
  },
  {
    ...tests("ui", "the web page in Chromium, in a lab and with 1,000 workloads", "tests/ui"),
    needs: "tests/ui/install-chromium",
  },
  {
    ...tests("incidents", "what is broken is named by one command, and its fix works", "tests/incidents"),
    beside: "labs",
  },
  { ...tests("faults", "killed, full, broken, gone", "tests/faults"), beside: "labs" },
  // The last: what it is made of builds beside the others.
  {
    ...tests("kubernetes", "a real Kubernetes cluster of two nodes on this machine", "tests/kubernetes"),
    needs: "tests/kubernetes/build",
  },
  {
    ...tests(
      "kubernetes-faults",
      "faults and lives of such a cluster under traffic",
      "tests/kubernetes-faults",
    ),
    needs: "tests/kubernetes/build",
    onlyNamed: true,
  },
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

/** What a lane's groups see: mounts, network, BPF file system and control groups of their own. */
const ALONE = [
  "unshare",
  ...["--mount", "--net", "--propagation", "private", "sh", "-c"],
  [
    "mount -t tmpfs none /run && mkdir -p /run/netns /run/lock && mount -t sysfs none /sys",
    "mount -t bpf none /sys/fs/bpf && mount -t cgroup2 none /sys/fs/cgroup && ip link set lo up",
    'exec "$@"',
  ].join(" && "),
  "alone",
];

interface Outcome {
  passed: number;
  failed: number;
  seconds: number;
}

/**
 * Runs one group.
 * @param wrapper Command and arguments that start it; empty: it is started as it is.
 * @param show Gets its output as it comes.
 */
async function run(group: Group, wrapper: string[], show: (chunk: Uint8Array) => void): Promise<Outcome> {
  const start = performance.now();
  const [command, ...args] = [...wrapper, "deno", ...group.args];
  const child = new Deno.Command(command, {
    args,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  let tail = "";
  const decoder = new TextDecoder();
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream) {
      show(chunk);
      tail = (tail + decoder.decode(chunk, { stream: true })).slice(-4000);
    }
  };
  await Promise.all([read(child.stdout), read(child.stderr)]);
  const { success } = await child.status;
  const seconds = (performance.now() - start) / 1000;
  if (group.kind === "check") return { passed: success ? 1 : 0, failed: success ? 0 : 1, seconds };
  const found = [...tail.matchAll(/(\d+) passed(?: \([^)]*\))? \| (\d+) failed/g)].at(-1);
  const failed = Number(found?.[2] ?? 0);
  return {
    passed: Number(found?.[1] ?? 0),
    failed: success ? failed : Math.max(failed, 1),
    seconds,
  };
}

/** Whether this process may make the surroundings of a lane of its own. */
async function canBeAlone(): Promise<boolean> {
  try {
    const [command, ...args] = [...ALONE, "true"];
    return (await new Deno.Command(command, { args, stdout: "null", stderr: "null" }).output()).success;
  } catch {
    return false;
  }
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
const selected = groups.filter((g) =>
  (Deno.args.length === 0 ? !g.onlyNamed : Deno.args.includes(g.name)) &&
  (g.kind === "check" || hasTests(g.args.slice(DENO_TEST.length)))
);
const outcomes = new Map<Group, Outcome>();

/** What groups need, by script; each says whether it came about, and its output is shown when it did not. */
const needed = new Map<string, Promise<void>>();
for (const { needs } of selected) {
  if (needs !== undefined && !needed.has(needs)) needed.set(needs, prepare(needs));
}

async function prepare(script: string): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command("nice", {
    args: ["-n", "15", script],
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (success) return;
  for (const bytes of [stdout, stderr]) console.log(new TextDecoder().decode(bytes).trim());
  console.log(`${script} failed: what needs it is skipped`);
}

/** With fewer, lanes would only take time from each other. */
const PROCESSORS_MIN = 4;
/** Lanes in surroundings of their own, and beside them all the rest. */
const lanes = (["packets", "labs"] as const).map((name) => selected.filter(({ beside }) => beside === name));
const inTurn = selected.filter((g) => !g.beside);
if (inTurn.length < selected.length && availableParallelism() >= PROCESSORS_MIN && await canBeAlone()) {
  await Promise.all([lane(inTurn, [], false), ...lanes.map((groups) => lane(groups, ALONE, true))]);
} else {
  await lane(selected, [], false);
}

/** Runs groups one after another; `held` output comes whole when its group ends. */
async function lane(groups: readonly Group[], wrapper: string[], held: boolean): Promise<void> {
  for (const group of groups) {
    const title = `\n== ${group.name}: ${group.says}\n`;
    const chunks: Uint8Array[] = [];
    const write = (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
    };
    if (held) console.log(`\n== ${group.name}: runs beside, its output comes when it ends`);
    else write(new TextEncoder().encode(title));
    if (group.needs !== undefined) await needed.get(group.needs);
    outcomes.set(group, await run(group, wrapper, held ? (chunk) => chunks.push(chunk) : write));
    if (held) {
      write(new TextEncoder().encode(title));
      chunks.forEach(write);
    }
  }
}

const rows = selected.map((group) => {
  const { passed, failed, seconds } = outcomes.get(group)!;
  const counts = `${String(passed).padStart(5)} passed ${String(failed).padStart(3)} failed`;
  return `${group.name.padEnd(12)} ${counts}  ${seconds.toFixed(1)} s`;
});
const total = (of: "passed" | "failed") => [...outcomes.values()].reduce((sum, o) => sum + o[of], 0);
console.log(`\n${rows.join("\n")}\n\n${total("passed")} passed, ${total("failed")} failed`);
Deno.exit(total("failed") > 0 ? 1 : 0);
