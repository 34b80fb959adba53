/**
 * Request-response, connect rate and one bulk stream between two workloads, through Weir on one node and on two, beside a
 * direct veth pair, plain routing and routing with iptables and conntrack, all in one run, in turns. Prints medians over
 * the rounds and the difference to the direct pair. What it should show: two pods on one node are within a microsecond
 * or so of a direct pair.
 *
 *     deno run -A tests/bench/traffic/bench.ts [--rounds 5]
 *
 * @module
 */
import { Lab, run } from "../../e2e/weir.ts";

const peer = new URL("peer.py", import.meta.url).pathname;
const PORT = 7000;
const rounds = Number(Deno.args[Deno.args.indexOf("--rounds") + 1]) || 5;
const prefix = `wb${Deno.pid}`;

interface Sample {
  rr: { p50: number; p99: number };
  crr: { p50: number; p99: number };
  rate: number;
}
interface Path {
  name: string;
  address: string;
  /** Words before a command so that it runs at the client or at the server. */
  client: string[];
  server: string[];
  samples: Sample[];
  gbits: number[];
}

async function must(command: string, ...args: string[]): Promise<string> {
  const ran = await run(command, args);
  if (ran.code !== 0) throw new Error(`${command} ${args.join(" ")}: exit ${ran.code}\n${ran.err}`);
  return ran.out;
}
const ip = (text: string) => must("ip", ...text.split(" "));
const inside = (ns: string) => ["nsenter", `--net=/run/netns/${ns}`];
const namespaces: string[] = [];
async function namespace(name: string): Promise<string> {
  const full = `${prefix}${name}`;
  await ip(`netns add ${full}`);
  namespaces.push(full);
  await ip(`-n ${full} link set lo up`);
  return full;
}

/** Two namespaces joined by one veth pair. */
async function direct(): Promise<Path> {
  const a = await namespace("da"), b = await namespace("db");
  await ip(`link add name e0 netns ${a} type veth peer name e0 netns ${b}`);
  for (const [ns, address] of [[a, "198.18.0.1"], [b, "198.18.0.2"]]) {
    await ip(`-n ${ns} addr add ${address}/24 dev e0`);
    await ip(`-n ${ns} link set e0 up`);
  }
  return {
    name: "direct veth pair",
    address: "198.18.0.2",
    client: inside(a),
    server: inside(b),
    samples: [],
    gbits: [],
  };
}

/** Two namespaces joined by a third that routes; with iptables also connection tracking and a hundred rules. */
async function routed(tag: string, iptables: boolean): Promise<Path> {
  const a = await namespace(`${tag}a`), r = await namespace(`${tag}r`), b = await namespace(`${tag}b`);
  for (const [ns, net] of [[a, 1], [b, 2]] as const) {
    await ip(`link add name e0 netns ${ns} type veth peer name e${net} netns ${r}`);
    await ip(`-n ${ns} addr add 198.18.${net}.2/24 dev e0`);
    await ip(`-n ${ns} link set e0 up`);
    await ip(`-n ${r} addr add 198.18.${net}.1/24 dev e${net}`);
    await ip(`-n ${r} link set e${net} up`);
    await ip(`-n ${ns} route add default via 198.18.${net}.1`);
  }
  await must("nsenter", `--net=/run/netns/${r}`, "sysctl", "-qw", "net.ipv4.ip_forward=1");
  if (iptables) {
    const rule = (...args: string[]) => must("nsenter", `--net=/run/netns/${r}`, "iptables", "-w", ...args);
    await rule("-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT");
    for (let i = 0; i < 100; i++) await rule("-A", "FORWARD", "-s", `192.0.2.${i}`, "-j", "DROP");
    await rule("-A", "FORWARD", "-p", "tcp", "--dport", `${PORT}`, "-j", "ACCEPT");
  }
  return {
    name: iptables ? "routing, iptables and conntrack" : "routing",
    address: "198.18.2.2",
    client: inside(a),
    server: inside(b),
    samples: [],
    gbits: [],
  };
}

const lab = new Lab(`bench${Deno.pid}`);
const pod = (name: string, node: number) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: default, labels: { app: ${name} } }\n` +
  `spec: { nodeName: node-${node}, containers: [{ name: main, command: [sleep, infinity] }] }\n`;

/** Two pods with a policy that allows the traffic; on one node or on two. */
async function weir(name: string, from: string, to: string, node: string): Promise<Path> {
  const address =
    JSON.parse(await lab.ok(["endpoint", "get", `default/${to}`, "--node", node, "-o", "json"])).status.ipv4;
  const exec = (
    pod: string,
  ) => [
    new URL("../../../scripts/weir", import.meta.url).pathname,
    "--lab",
    lab.name,
    "lab",
    "exec",
    pod,
    "--",
  ];
  return {
    name,
    address,
    client: exec(`default/${from}`),
    server: exec(`default/${to}`),
    samples: [],
    gbits: [],
  };
}

/** Starts a server that ends with the benchmark. */
function serve(path: Path, words: string[]): Deno.ChildProcess {
  const [command, ...args] = [...path.server, ...words];
  return new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
}

async function measure(path: Path): Promise<void> {
  // Both ends on one CPU: on two, the wake-up across CPUs hides every other cost.
  const [command, ...args] = [
    ...path.client,
    "taskset",
    "-c",
    "0",
    "python3",
    peer,
    "client",
    path.address,
    `${PORT}`,
    "2000",
  ];
  path.samples.push(JSON.parse(await must(command, ...args)));
  const [iperf, ...more] = [...path.client, "iperf3", "-J", "-t", "1", "-c", path.address];
  const bulk = JSON.parse(await must(iperf, ...more));
  path.gbits.push(bulk.end.sum_received.bits_per_second / 1e9);
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const servers: Deno.ChildProcess[] = [];
try {
  const paths = [await direct(), await routed("r", false), await routed("i", true)];
  await lab.up(2, [pod("client", 1), pod("near", 1), pod("far", 2)].join("---\n"));
  await lab.apply(
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: bench, namespace: default }\n" +
      "spec: { endpointSelector: {}, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }\n",
  );
  paths.push(await weir("Weir, two pods on one node", "client", "near", "node-1"));
  paths.push(await weir("Weir, two nodes (VXLAN)", "client", "far", "node-2"));
  for (const path of paths) {
    servers.push(
      serve(path, ["taskset", "-c", "0", "python3", peer, "server", `${PORT}`]),
      serve(path, ["iperf3", "-s"]),
    );
  }
  await new Promise((resolve) => setTimeout(resolve, 1500));
  for (let round = 0; round < rounds; round++) for (const path of paths) await measure(path);
  const base = paths[0];
  console.log(
    `${"path".padEnd(34)} rr p50 us   to direct   connect p50 us   connects/s   bulk Gbit/s   to direct`,
  );
  for (const path of paths) {
    const rr = median(path.samples.map((s) => s.rr.p50)), rr0 = median(base.samples.map((s) => s.rr.p50));
    const crr = median(path.samples.map((s) => s.crr.p50));
    const rate = median(path.samples.map((s) => s.rate));
    const gbits = median(path.gbits), gbits0 = median(base.gbits);
    console.log(
      path.name.padEnd(34) + rr.toFixed(1).padStart(10) +
        `${(rr - rr0 >= 0 ? "+" : "") + (rr - rr0).toFixed(1)}`.padStart(12) +
        crr.toFixed(1).padStart(17) + rate.toFixed(0).padStart(13) + gbits.toFixed(1).padStart(14) +
        `${(gbits / gbits0).toFixed(2)} x`.padStart(12),
    );
  }
} finally {
  for (const server of servers) {
    try {
      server.kill("SIGKILL");
    } catch { /* it has ended */ }
  }
  await lab.down().catch((error) => console.error(error.message));
  for (const ns of namespaces) await run("ip", ["netns", "delete", ns]);
}
Deno.exit(0);
