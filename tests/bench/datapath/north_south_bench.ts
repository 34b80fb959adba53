/**
 * ns per packet at the outer device by BPF_PROG_TEST_RUN, net of an empty program and of the dispatcher (see README.md): the
 * host's own traffic, services from outside, masquerade.
 *
 *     sudo deno run -A tests/bench/datapath/north_south_bench.ts [--rounds N] [--repeat N] [--json]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { BpfObject, type BpfProgram, Gate, StructuralVerifier, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { compile } from "../../../datapath/bpf/build.ts";
import { TestNode } from "../../datapath/node.ts";
import { ACK, type Bytes, packet, type PacketSpec, SYN } from "../../datapath/packet.ts";
import { setBackend, setFrontend, setSelection } from "../../datapath/services.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    repeat: { type: "string", default: "50000" },
    json: { type: "boolean", default: false },
  },
});
const rounds = Number(options.rounds), repeatMin = Number(options.repeat);
const FIRST_PORT = 33000, SERVICES = 1000;
const FAMILIES = [
  {
    name: "v4",
    a: "10.0.1.10",
    remote: "10.0.2.20",
    world: "198.51.100.7",
    host: "192.0.2.1",
    any: "0.0.0.0",
  },
  {
    name: "v6",
    a: "fd00:1::10",
    remote: "fd00:2::20",
    world: "2001:db8:9::7",
    host: "2001:db8::1",
    any: "::",
  },
];

const node = await TestNode.open({ weir_events: 32 << 20 });
const out = new URL("../../../.build/bench", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
const source = new URL("dispatch.c", import.meta.url).pathname;
await compile(source, `${out}/dispatch.o`, { inputs: [source] });
const bench = BpfObject.openFile(`${out}/dispatch.o`);
bench.load(new Gate(new StructuralVerifier()));
const dispatch = bench.program("dispatch"), empty = bench.program("empty");
const device = node.addDevice();

const frame = (spec: PacketSpec): Bytes => packet({ ...spec, payload: new Array(60).fill(7) });
/** One run over `flows` source ports from FIRST_PORT on. */
function run(program: BpfProgram, spec: PacketSpec, flows: number, repeat: number, verdict?: number): number {
  bench.openMap("bench_target").update(u32(0), u32(program.fd));
  const plan = new Uint8Array(16 + 80);
  const view = new DataView(plan.buffer);
  [flows, flows, FIRST_PORT, spec.to.includes(":") ? 54 : 34].forEach((word, i) =>
    view.setUint32(i * 4, word, true)
  );
  plan.set(frame(spec).subarray(0, 80), 16);
  bench.openMap("bench_plan").update(u32(0), plan);
  const ctx = new Uint8Array(192);
  new DataView(ctx.buffer).setUint32(40, device, true);
  const result = dispatch.testRun({ data: frame(spec), ctx, repeat });
  if (verdict !== undefined && result.retval !== verdict) {
    throw new Error(`${JSON.stringify(spec)}: verdict ${result.retval}, expected ${verdict}`);
  }
  node.drainEvents();
  return result.durationNs;
}
const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1];
/** `least`: of the least run and the least empty one. */
const results: { name: string; net: number; least: number }[] = [];

try {
  node.addEndpoint({ id: 1, identity: 1000, ipv4: FAMILIES[0].a, ipv6: FAMILIES[1].a, ifindex: device });
  node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6 });
  console.log(`| path, ${SERVICES} services | 1 flow | 10k flows |\n|---|---|---|`);
  for (const [i, f] of FAMILIES.entries()) {
    node.setIpcache(f.remote, 1002, "192.0.2.2");
    const here = i * 2 + 1, far = here + 1;
    setBackend(node, { id: here, address: f.a, port: 8080 });
    setBackend(node, { id: far, address: f.remote, port: 8080 });
    setSelection(node, here, [here]);
    setSelection(node, far, [far]);
    for (let n = 0; n < SERVICES; n++) {
      const slot = n % 2 ? far : here;
      const common = { service: n + 1, internal: slot, external: slot, flags: abi.FRONTEND_EXTERNAL };
      setFrontend(node, { address: f.any, port: 30000 + n, ...common });
    }
    const get = (name: string) => node.program(name);
    const pod = { from: f.a, to: f.world, dport: 443 };
    const paths: [string, string, PacketSpec, number, (flows: number) => void][] = [
      [
        "in: the host's, port 22",
        "from_netdev",
        { from: f.world, to: f.host, dport: 22, flags: ACK },
        0,
        () => {},
      ],
      [
        "in: the host's, a port of the NAT range",
        "from_netdev",
        { from: f.world, to: f.host, dport: 50000, flags: ACK },
        0,
        () => {},
      ],
      ["in: for a pod", "from_netdev", { from: f.world, to: f.a, dport: 8081, flags: ACK }, 7, () => {}],
      [
        "in: NodePort, backend here",
        "from_netdev",
        { from: f.world, to: f.host, dport: 30998, flags: ACK },
        7,
        () => {},
      ],
      [
        "in: NodePort, backend far away, SNAT",
        "from_netdev",
        { from: f.world, to: f.host, dport: 30999, flags: ACK },
        7,
        () => {},
      ],
      [
        "out: the host's, port 33000",
        "to_netdev",
        { from: f.host, to: f.world, dport: 443, flags: ACK },
        0,
        () => {},
      ],
      ["out: masqueraded", "to_netdev", { ...pod, flags: ACK }, 0, (flows) => {
        run(get("from_endpoint"), { ...pod, flags: SYN }, flows, flows, 0);
      }],
      [
        "out: answer of a backend",
        "to_netdev",
        { from: f.a, to: f.world, dport: 40000, flags: ACK },
        0,
        (flows) => {
          // the client asked from port 40000; the backend's port is what varies here, so one flow only
          if (flows === 1) {
            setBackend(node, { id: here, address: f.a, port: FIRST_PORT });
            node.run("from_netdev", packet({ from: f.world, to: f.host, sport: 40000, dport: 30998 }));
          }
        },
      ],
    ];
    for (const [name, program, spec, verdict, prepare] of paths) {
      const cells: string[] = [];
      for (const flows of [1, 10_000]) {
        node.gc(abi.GC_ALL);
        if (flows > 1 && name.startsWith("out: answer")) {
          cells.push("-");
          continue;
        }
        prepare(flows);
        run(get(program), { ...spec, flags: name.startsWith("in") ? SYN : ACK }, flows, flows, verdict);
        run(get(program), spec, flows, flows * 2, verdict);
        const nets: number[] = [], bases: number[] = [];
        const repeat = Math.max(repeatMin, flows);
        let fastest = Infinity;
        for (let round = 0; round < rounds; round++) {
          bases.push(run(empty, spec, flows, repeat));
          const took = run(get(program), spec, flows, repeat, verdict);
          nets.push(took - bases[round]);
          fastest = Math.min(fastest, took);
        }
        const net = median(nets), least = fastest - Math.min(...bases);
        results.push({ name: `${name}, ${f.name}, ${flows} flows`, net, least });
        cells.push(`${net}`);
      }
      console.log(`| ${name}, ${f.name} | ${cells.join(" | ")} |`);
    }
  }
  if (options.json) console.log(JSON.stringify({ results }));
} finally {
  bench.close();
  node[Symbol.dispose]();
}
