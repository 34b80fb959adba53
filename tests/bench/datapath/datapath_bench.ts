/**
 * ns per packet of the datapath's paths by BPF_PROG_TEST_RUN, beside an empty program in the same run and the aims.
 *
 *     sudo deno run -A tests/bench/datapath/datapath_bench.ts [--rounds N] [--repeat N] [--only REGEX] [--json]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { BpfObject, type BpfProgram, Gate, StructuralVerifier, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { compile } from "../../../datapath/bpf/build.ts";
import { type Rule, TestNode } from "../../datapath/node.ts";
import { ACK, ipv4Number, packet, type PacketSpec, SYN, TCP } from "../../datapath/packet.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    repeat: { type: "string", default: "50000" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});
const rounds = Number(options.rounds), repeat = Number(options.repeat);
const FIRST_PORT = 1024;

interface Path {
  name: string;
  program: string;
  spec: PacketSpec;
  flows: number;
  /** What the program must answer, so that nothing is measured that did something else. */
  verdict: number;
  /** Every repeat is a new flow: the table is emptied between rounds. */
  fresh?: boolean;
  denied?: boolean;
  /** Its flows begin by a SYN: policy has them go to the proxy. */
  redirected?: boolean;
  aim?: number;
  cilium?: string;
}

const v4 = { a: "10.0.1.10", b: "10.0.1.11", c: "10.0.1.12", remote: "10.0.2.20", world: "198.51.100.7" };
const v6 = {
  a: "fd00:1::10",
  b: "fd00:1::11",
  c: "fd00:1::12",
  remote: "fd00:2::20",
  world: "2001:db8:9::7",
};
const paths: Path[] = [];
for (const flows of [1, 10_000, 50_000]) {
  const aim = (one: number, many: number) => flows === 1 ? one : flows === 10_000 ? many : undefined;
  const many = flows === 1 ? "1 flow" : `${flows / 1000}k flows`;
  for (const [family, e] of [["v4", v4], ["v6", v6]] as const) {
    if (family === "v6" && flows === 50_000) continue;
    const add = (name: string, path: Omit<Path, "name" | "flows">) =>
      paths.push({ name: `${name}, ${family}, ${many}`, flows, ...path });
    add("from endpoint to the world, established", {
      program: "from_endpoint",
      spec: { from: e.a, to: e.world, flags: ACK },
      verdict: 0,
      aim: aim(200, 300),
      cilium: flows === 1 ? "748-860" : flows === 10_000 ? "1030-1144" : undefined,
    });
    add("from endpoint into the tunnel, established", {
      program: "from_endpoint",
      spec: { from: e.a, to: e.remote, flags: ACK },
      verdict: 7,
      aim: aim(200, 300),
      cilium: flows === 1 ? "748" : flows === 10_000 ? "1030" : undefined,
    });
    add("pod to pod, established", {
      program: "from_endpoint",
      spec: { from: e.a, to: e.b, flags: ACK },
      verdict: 7,
      aim: aim(220, 320),
      cilium: flows === 1 ? "1186-1203" : flows === 10_000 ? "1660-1930" : undefined,
    });
    add("to endpoint, established", {
      program: "to_endpoint",
      spec: { from: e.world, to: e.a, flags: ACK },
      verdict: 0,
      cilium: flows === 1 ? "576-584" : flows === 10_000 ? "825-875" : undefined,
    });
  }
}
for (const [family, e] of [["v4", v4], ["v6", v6]] as const) {
  for (const flows of [1, 1000]) {
    paths.push({
      name: `from endpoint to the proxy, established, ${family}, ${flows === 1 ? "1 flow" : "1k flows"}`,
      program: "from_endpoint",
      spec: { from: e.c, to: e.world, dport: 8080, flags: ACK },
      flows,
      verdict: 0,
      redirected: true,
    });
  }
  paths.push({
    name: `new connection, both policies and event, fresh keys, ${family}`,
    program: "from_endpoint",
    spec: { from: e.a, to: e.b, flags: SYN },
    flows: 60_000,
    verdict: 7,
    fresh: true,
    aim: 1200,
    cilium: "1814",
  });
  paths.push({
    name: `denied, with event, ${family}`,
    program: "from_endpoint",
    spec: { from: e.a, to: e.b, dport: 81, flags: SYN },
    flows: 1,
    verdict: 2,
    denied: true,
    aim: 220,
    cilium: "563-585",
  });
  paths.push({
    name: `denied for the first time, with event, ${family}`,
    program: "from_endpoint",
    spec: { from: e.a, to: e.b, dport: 81, flags: SYN },
    flows: 1000,
    verdict: 2,
    denied: true,
    aim: 220,
    cilium: "563-585",
  });
}

const node = await TestNode.open({ weir_events: 32 << 20 });
const out = new URL("../../../.build/bench", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
const source = new URL("dispatch.c", import.meta.url).pathname;
await compile(source, `${out}/dispatch.o`, { inputs: [source] });
const bench = BpfObject.openFile(`${out}/dispatch.o`);
bench.load(new Gate(new StructuralVerifier()));
const dispatch = bench.program("dispatch"), empty = bench.program("empty");

const devices = [node.addDevice(), node.addDevice(), node.addDevice()];
/** Forty entries around those that matter, as in a policy of some size. */
const filler = (direction: Rule["direction"]): Rule[] =>
  [...Array(40)].map((_, i) => ({ direction, identity: 5000 + i, protocol: TCP, port: 9000 }));
node.setPolicy(1, {
  enforceEgress: true,
  rules: [...filler("egress"), { direction: "egress", protocol: TCP, port: 80, cookie: 1 }],
});
node.setPolicy(2, {
  enforceIngress: true,
  rules: [
    ...filler("ingress"),
    { direction: "ingress", identity: 1000, protocol: TCP, port: 80, cookie: 2 },
    { direction: "ingress", identity: 9, protocol: TCP, cookie: 3 },
  ],
});
// Connections of the third one go to a proxy, which nobody runs here: a test run ends with the packet that would go there.
node.writeConfig({
  handleIpv4Be: ipv4Number("240.0.0.0"),
  handleMaskIpv4: 0xffffff,
  handleIpv6: new DataView(Uint8Array.of(0xfd, 0x57, 0x4c, 0x37, 0, 0, 0, 0).buffer).getBigUint64(0, true),
  proxyPort: 15001,
});
node.setPolicy(3, {
  enforceEgress: true,
  rules: [...filler("egress"), { direction: "egress", protocol: TCP, port: 8080, redirect: true, cookie: 4 }],
});
node.addEndpoint({ id: 3, identity: 1003, ipv4: v4.c, ipv6: v6.c, ifindex: devices[2], policy: 3 });
node.addEndpoint({ id: 1, identity: 1000, ipv4: v4.a, ipv6: v6.a, ifindex: devices[0], policy: 1 });
node.addEndpoint({ id: 2, identity: 1001, ipv4: v4.b, ipv6: v6.b, ifindex: devices[1], policy: 2 });
node.setIpcache(v4.remote, 1002, "192.0.2.2");
node.setIpcache(v6.remote, 1002, "192.0.2.2");

function aimAt(program: BpfProgram, path: Path): void {
  bench.openMap("bench_target").update(u32(0), u32(program.fd));
  const plan = new Uint8Array(16 + 80);
  const view = new DataView(plan.buffer);
  view.setUint32(0, path.flows, true);
  view.setUint32(4, path.flows, true);
  view.setUint32(8, FIRST_PORT, true);
  view.setUint32(12, path.spec.to.includes(":") ? 54 : 34, true);
  plan.set(frame(path).subarray(0, 80), 16);
  bench.openMap("bench_plan").update(u32(0), plan);
}
const frame = (path: Path) => packet({ ...path.spec, payload: new Array(60).fill(7) });

function run(program: BpfProgram, path: Path, times: number): number {
  aimAt(program, path);
  const ctx = new Uint8Array(192);
  new DataView(ctx.buffer).setUint32(40, devices[path.redirected ? 2 : 0], true);
  const result = dispatch.testRun({ data: frame(path), ctx, repeat: times });
  const wanted = program === empty ? 0 : path.verdict;
  if (result.retval !== wanted) throw new Error(`${path.name}: verdict ${result.retval}, expected ${wanted}`);
  return result.durationNs;
}
const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1];

interface Result {
  path: Path;
  net: number;
  /** Of the least run and the least empty one. */
  least: number;
  inAll: number;
  slowest: number;
}
const results: Result[] = [];
try {
  const alone: number[] = [];
  for (let i = 0; i < rounds; i++) alone.push(empty.testRun({ data: frame(paths[0]), repeat }).durationNs);
  const emptyNs = median(alone);
  for (const path of paths.filter(({ name }) => new RegExp(options.only).test(name))) {
    const program = node.program(path.program);
    const times = path.fresh ? path.flows : Math.max(repeat, path.flows * 2);
    node.gc(abi.GC_ALL);
    node.drainEvents();
    // The flows are there before they are measured.
    if (path.redirected) run(program, { ...path, spec: { ...path.spec, flags: SYN } }, path.flows);
    if (!path.fresh && !path.denied) run(program, path, path.flows * 2);
    const bases: number[] = [], nets: number[] = [];
    let fastest = Infinity;
    for (let i = 0; i < rounds; i++) {
      node.drainEvents();
      if (path.fresh) node.gc(abi.GC_ALL);
      bases.push(run(empty, path, times));
      const took = run(program, path, times);
      nets.push(took - bases[i]);
      fastest = Math.min(fastest, took);
    }
    const net = median(nets), least = fastest - Math.min(...bases);
    results.push({ path, net, least, inAll: net + emptyNs, slowest: nets[nets.length - 1] });
  }
  if (options.json) {
    console.log(
      JSON.stringify({
        emptyNs,
        results: results.map(({ path, ...r }) => ({ name: path.name, aim: path.aim, ...r })),
      }),
    );
  } else {
    console.log(
      `empty program: ${emptyNs} ns; net: without it and without the dispatcher; median of ${rounds} rounds\n`,
    );
    console.log("| path | net ns | in all | slowest round | aim | Cilium |\n|---|---|---|---|---|---|");
    for (const { path, net, inAll, slowest } of results) {
      console.log(
        `| ${path.name} | ${net} | ${inAll} | ${slowest} | ${path.aim ?? "-"} | ${path.cilium ?? "-"} |`,
      );
    }
    console.log(`\nevents lost: ${[...Array(8).keys()].map((type) => node.lost(type)).join(" ")}`);
  }
} finally {
  bench.close();
  node[Symbol.dispose]();
}
