/**
 * What the CNI plugin costs from start to exit, beside `/bin/true` in the same run: alone (VERSION), with one question to the
 * endpoint manager (STATUS), and whole pods (ADD and DEL of a namespace that is there). Rounds are interleaved, so that who is
 * disturbed is all of them. The processor's time is the plugin's own.
 *
 *     iso deno run -A tests/bench/cni/cni_bench.ts [--rounds 200]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { Machine, MachineNetwork } from "../../e2e/machine.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;
const PLUGIN = `${ROOT}.build/cni/weir-cni`;
const CONFIG = '{"cniVersion":"1.1.0","name":"weir","type":"weir-cni","labels":["app=bench"]}';
const NETNS = "bench";

/**
 * Runs in the machine: forks and waits, so that nothing but the program is measured. `wait4` says its processor time, which the
 * kernel counts in microseconds.
 */
const RUNNER = `
import json, os, subprocess, sys, time
plugin, config, rounds = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
base = dict(CNI_CONTAINERID='bench', CNI_NETNS='/run/netns/${NETNS}', CNI_IFNAME='eth0', CNI_PATH='/opt/cni/bin', PATH=os.environ['PATH'])
programs = [('true', ['/bin/true'], None)] + [(c, [plugin], c) for c in ('VERSION', 'STATUS', 'ADD', 'DEL')]
costs = {name: [] for name, _, _ in programs}
for _ in range(rounds):
    for name, words, command in programs:
        env = dict(base, CNI_COMMAND=command) if command else base
        before = time.perf_counter()
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        if command: child.stdin.write(config)
        child.stdin.close()
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        if status: sys.exit(f'{name}: {output.decode()}')
        costs[name].append([(time.perf_counter() - before) * 1000, (usage.ru_utime + usage.ru_stime) * 1000])
print(json.dumps(costs))
`;

const { values: { rounds } } = parseArgs({ options: { rounds: { type: "string", default: "200" } } });
const machine = new Machine("cni-bench", "192.0.2.1");
await using _network = await MachineNetwork.up(machine);
await machine.ok(["ip", "route", "add", "default", "via", "192.0.2.254"]);
await machine.ok(["ip", "netns", "add", NETNS]);
await machine.startAgent("--control-plane", "--no-flow-history");
const costs: Record<string, [wall: number, cpu: number][]> = JSON.parse(
  await machine.ok(["python3", "-c", RUNNER, PLUGIN, CONFIG, rounds]),
);

const quantile = (sorted: number[], part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
const of = (name: string, which: 0 | 1) => costs[name].map((cost) => cost[which]).sort((a, b) => a - b);
const floor = quantile(of("true", 0), 0.5);
console.log("              wall ms: min   median      p99   to true   CPU ms, median");
for (const name of Object.keys(costs)) {
  const wall = of(name, 0);
  const cells = [wall[0], quantile(wall, 0.5), quantile(wall, 0.99)].map((ms) => ms.toFixed(2).padStart(9));
  const ratio = (quantile(wall, 0.5) / floor).toFixed(1).padStart(9);
  console.log(name.padEnd(12) + cells.join("") + ratio + quantile(of(name, 1), 0.5).toFixed(2).padStart(17));
}
