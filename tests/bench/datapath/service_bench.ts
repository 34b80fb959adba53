/**
 * ns per packet of services from an endpoint by BPF_PROG_TEST_RUN, with 1 to 10,000 services, beside an empty program in the
 * same run.
 *
 *     sudo deno run -A tests/bench/datapath/service_bench.ts [--rounds N] [--repeat N] [--services 1,100,...] [--only REGEX] [--json]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { BpfObject, type BpfProgram, Gate, StructuralVerifier, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { compile } from "../../../datapath/bpf/build.ts";
import { TestNode } from "../../datapath/node.ts";
import { ACK, packet, SYN, UDP } from "../../datapath/packet.ts";
import { setBackend, setFrontend, setSelection } from "../../datapath/services.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    repeat: { type: "string", default: "50000" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    services: { type: "string", default: "1,100,1000,5000,10000" },
  },
});
const rounds = Number(options.rounds), repeat = Number(options.repeat);
const sizes = options.services.split(",").map(Number);
const FIRST_PORT = 10_000, UDP_ID = 30_000;
/** New flows into a table that stays in the cache, and into one that does not. */
const FEW_FLOWS = 1000, MANY_FLOWS = 30_000;
const FAMILIES = [
  { name: "v4", a: "10.0.1.10", b: "10.0.1.11", vip: "10.96.0.10", source: 34, destination: 36 },
  { name: "v6", a: "fd00:1::10", b: "fd00:1::11", vip: "fd00:10:96::10", source: 54, destination: 56 },
];

const node = await TestNode.open({ weir_events: 32 << 20 });
const out = new URL("../../../.build/bench", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
const source = new URL("dispatch.c", import.meta.url).pathname;
await compile(source, `${out}/dispatch.o`, { inputs: [source] });
const bench = BpfObject.openFile(`${out}/dispatch.o`);
bench.load(new Gate(new StructuralVerifier()));
const dispatch = bench.program("dispatch"), empty = bench.program("empty");
const devices = [node.addDevice(), node.addDevice()];
node.addEndpoint({ id: 1, identity: 1000, ipv4: FAMILIES[0].a, ipv6: FAMILIES[1].a, ifindex: devices[0] });
node.addEndpoint({ id: 2, identity: 1001, ipv4: FAMILIES[0].b, ipv6: FAMILIES[1].b, ifindex: devices[1] });
const program = node.program("from_endpoint");

let made = 0;
type Family = typeof FAMILIES[number];
interface Plan {
  family: Family;
  flows: number;
  /** Port of the service, or of the first where flows differ by it. */
  dport: number;
  sport: number;
  flags: number;
  perService: boolean;
  /** No service at all: the backend's own address. */
  direct?: boolean;
  /** Default TCP. */
  protocol?: number;
}

const frame = ({ family, dport, sport, flags, direct, protocol }: Plan) =>
  packet({
    protocol,
    from: family.a,
    to: direct ? family.b : family.vip,
    sport,
    dport,
    flags,
    payload: new Array(60).fill(7),
  });

function run(target: BpfProgram, plan: Plan, times: number): number {
  bench.openMap("bench_target").update(u32(0), u32(target.fd));
  const bytes = new Uint8Array(16 + 80);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, plan.flows, true);
  view.setUint32(4, plan.flows, true);
  view.setUint32(8, plan.perService ? plan.dport : plan.sport, true);
  view.setUint32(12, plan.perService ? plan.family.destination : plan.family.source, true);
  bytes.set(frame(plan).subarray(0, 80), 16);
  bench.openMap("bench_plan").update(u32(0), bytes);
  const ctx = new Uint8Array(192);
  new DataView(ctx.buffer).setUint32(40, devices[0], true);
  const result = dispatch.testRun({ data: frame(plan), ctx, repeat: times });
  const wanted = target === empty ? 0 : 7;
  if (result.retval !== wanted) throw new Error(`verdict ${result.retval}, expected ${wanted}`);
  return result.durationNs;
}

const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1];

/** Of the least run and the least empty one. */
let least = 0;
const results: { name: string; net: number; least: number }[] = [];

function measure(plan: Plan, fresh = false): number {
  const kind = plan.direct ? "no service" : plan.perService ? "one flow per service" : "ClusterIP";
  const name = `${kind}${plan.protocol === UDP ? ", UDP" : ""}, ${
    fresh ? `new, ${plan.flows} flows` : "established"
  }, ${plan.family.name}, ${made} services`;
  if (!new RegExp(options.only).test(name)) return NaN;
  const times = fresh ? plan.flows : Math.max(repeat, plan.flows * 2);
  node.gc(abi.GC_ALL);
  node.drainEvents();
  if (!fresh) run(program, plan, plan.flows * 2);
  const nets: number[] = [], bases: number[] = [];
  let fastest = Infinity;
  for (let i = 0; i < rounds; i++) {
    node.drainEvents();
    if (fresh) node.gc(abi.GC_ALL);
    bases.push(run(empty, plan, times));
    const took = run(program, plan, times);
    nets.push(took - bases[i]);
    fastest = Math.min(fastest, took);
  }
  least = fastest - Math.min(...bases);
  results.push({ name, net: median(nets), least });
  return median(nets);
}

try {
  console.log(
    `net ns (without the empty program and the dispatcher), median of ${rounds} rounds; the last service is asked`,
  );
  console.log(
    `| services | family | no service, established | ClusterIP, established | UDP | one flow per service | no service, new, ${FEW_FLOWS} / ${MANY_FLOWS} flows | ClusterIP, new, ${FEW_FLOWS} / ${MANY_FLOWS} flows |`,
  );
  console.log("|---|---|---|---|---|---|---|---|");
  for (const size of sizes) {
    for (; made < size; made++) {
      for (const [index, family] of FAMILIES.entries()) {
        const id = 2 * made + index + 1;
        // A port of its own: one client port towards one backend is one flow.
        setBackend(node, { id, address: family.b, port: FIRST_PORT + made, service: made + 1 });
        setSelection(node, id, [id]);
        const frontend = { address: family.vip, port: FIRST_PORT + made, service: made + 1 };
        setFrontend(node, { ...frontend, internal: id });
        // (Selections are many maps: UDP has one for all services.)
        const udp = UDP_ID + index;
        setBackend(node, { id: udp, address: family.b, port: 9, protocol: UDP, service: made + 1 });
        setSelection(node, udp, [udp]);
        setFrontend(node, { ...frontend, protocol: UDP, internal: udp });
      }
    }
    for (const family of FAMILIES) {
      const dport = FIRST_PORT + size - 1;
      const one: Plan = { family, flows: 1, dport, sport: 2000, flags: ACK, perService: false };
      const each: Plan = { ...one, flows: size, dport: FIRST_PORT, perService: true };
      const few: Plan = { ...one, flows: FEW_FLOWS, sport: 1024, flags: SYN };
      const many: Plan = { ...few, flows: MANY_FLOWS };
      const fresh = (direct: boolean) =>
        [few, many].map((plan) => measure({ ...plan, direct }, true)).join(" / ");
      const cells = [
        measure({ ...one, direct: true }),
        measure(one),
        measure({ ...one, protocol: UDP }),
        measure(each),
        fresh(true),
        fresh(false),
      ];
      console.log(`| ${size} | ${family.name} | ${cells.join(" | ")} |`);
    }
  }
  if (options.json) console.log(JSON.stringify({ results }));
} finally {
  bench.close();
  node[Symbol.dispose]();
}
