/**
 * Runs the repository's checks and tests in groups, and sums up. Groups that run packets through programs have surroundings
 * of their own and run beside the others, where the machine lets them. The last line is `N passed, N failed`; the exit code
 * is 1 when anything failed.
 *
 * Who has no more than so much time says so in WEIR_TEST_MINUTES: what has not begun by then is skipped, what runs is ended,
 * and both are named.
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
  /** Takes all that the machine has: it runs when all others have ended. */
  last?: boolean;
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
    ...tests("envoy", "our readers of HTTP beside a real Envoy", "tests/envoy"),
    needs: "tests/bench/l7/fetch-envoy",
  },
  {
    ...tests("ui", "the web page in Chromium, in a lab and with 1,000 workloads", "tests/ui"),
    needs: "tests/ui/install-chromium",
  },
  {
    ...tests("incidents", "what is broken is named by one command, and its fix works", "tests/incidents"),
    beside: "labs",
  },
  {
    ...tests(
      "lab-conformance",
      "policy cases and random policies, every pod pair with real packets",
      "tests/lab-conformance",
    ),
    beside: "labs",
  },
  { ...tests("faults", "killed, full, broken, gone", "tests/faults"), beside: "labs" },
  // What it is made of builds beside the others.
  {
    ...tests("kubernetes", "a real Kubernetes cluster of two nodes on this machine", "tests/kubernetes"),
    needs: "tests/kubernetes/build",
    last: true,
  },
  {
    ...tests(
      "kubernetes-faults",
      "faults and lives of such a cluster under traffic",
      "tests/kubernetes-faults",
    ),
    needs: "tests/kubernetes-faults/build",
    last: true,
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
  /** Why it, or a part of it, did not run. */
  unseen?: string;
}

/** When the time of this run is over, on the clock of performance.now(). */
const END_MS = minutesOf(Deno.env.get("WEIR_TEST_MINUTES")) * 60_000;

function minutesOf(text: string | undefined): number {
  if (!text) return Infinity;
  if (/^\d{1,4}$/.test(text)) return Number(text);
  console.error(`WEIR_TEST_MINUTES is a number of minutes, not ${text}`);
  Deno.exit(2);
}

/** Resolves at the end of this run's time; never where it has no end. */
function timeIsOver(): Promise<void> {
  return new Promise((resolve) => {
    if (END_MS !== Infinity) Deno.unrefTimer(setTimeout(resolve, Math.max(0, END_MS - performance.now())));
  });
}

/**
 * Runs one group.
 * @param wrapper Command and arguments that start it; empty: it is started as it is.
 * @param show Gets its output as it comes.
 */
async function run(group: Group, wrapper: string[], show: (chunk: Uint8Array) => void): Promise<Outcome> {
  const start = performance.now();
  if (start >= END_MS) return { passed: 0, failed: 0, seconds: 0, unseen: "skipped: no time is left" };
  const [command, ...args] = [...wrapper, "deno", ...group.args];
  const child = new Deno.Command(command, {
    args,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  let tail = "", cutOff = false;
  const cut = END_MS === Infinity ? undefined : setTimeout(() => {
    cutOff = true;
    child.kill("SIGKILL");
  }, END_MS - start);
  const decoder = new TextDecoder(), ended = { passed: 0, failed: 0 };
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream) {
      show(chunk);
      const text = decoder.decode(chunk, { stream: true });
      ended.passed += text.match(/ ok \(\d+(?:m|s|ms|µs)/g)?.length ?? 0;
      ended.failed += text.match(/ FAILED \(\d+(?:m|s|ms|µs)/g)?.length ?? 0;
      tail = (tail + text).slice(-4000);
    }
  };
  const output = Promise.all([read(child.stdout), read(child.stderr)]);
  const { success } = await child.status;
  clearTimeout(cut);
  // What a test that was cut off started may hold its output open.
  if (!cutOff) await output;
  const seconds = (performance.now() - start) / 1000;
  if (cutOff) return { ...ended, seconds, unseen: "cut off: the time is over" };
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

/** With fewer there is one lane beside the rest: most of what labs take is waiting. */
const PROCESSORS_FOR_TWO_LANES = 4;
const beside = selected.filter((g) => g.beside !== undefined);
const inTurn = selected.filter((g) => g.beside === undefined && !g.last);
if (inTurn.length > 0 && beside.length > 0 && await canBeAlone()) {
  const lanes = availableParallelism() < PROCESSORS_FOR_TWO_LANES
    ? [beside]
    : (["packets", "labs"] as const).map((name) => beside.filter((g) => g.beside === name));
  await Promise.all([lane(inTurn, [], false), ...lanes.map((groups) => lane(groups, ALONE, true))]);
} else {
  await lane(selected.filter((g) => !g.last), [], false);
}
await lane(selected.filter((g) => g.last), [], false);

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
    if (group.needs !== undefined) await Promise.race([needed.get(group.needs), timeIsOver()]);
    outcomes.set(group, await run(group, wrapper, held ? (chunk) => chunks.push(chunk) : write));
    if (held) {
      write(new TextEncoder().encode(title));
      chunks.forEach(write);
    }
  }
}

const rows = selected.map((group) => {
  const { passed, failed, seconds, unseen } = outcomes.get(group)!;
  const counts = `${String(passed).padStart(5)} passed ${String(failed).padStart(3)} failed`;
  return `${group.name.padEnd(12)} ${counts}  ${seconds.toFixed(1)} s${unseen ? `  ${unseen}` : ""}`;
});
const total = (of: "passed" | "failed") => [...outcomes.values()].reduce((sum, o) => sum + o[of], 0);
console.log(`\n${rows.join("\n")}\n\n${total("passed")} passed, ${total("failed")} failed`);
Deno.exit(total("failed") > 0 ? 1 : 0);
