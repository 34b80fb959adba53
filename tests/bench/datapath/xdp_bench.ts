/**
 * ns per packet of xdp_netdev by BPF_PROG_TEST_RUN, less an empty program and the dispatcher in the same run.
 *
 *     sudo deno run -A tests/bench/datapath/xdp_bench.ts [--rounds N] [--repeat N]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { BpfObject, type BpfProgram, Gate, StructuralVerifier, u32 } from "@weir/loader";
import { compile } from "../../../datapath/bpf/build.ts";
import { ACK, packet, type PacketSpec, SYN } from "../../datapath/packet.ts";
import {
  DSR,
  FAMILIES,
  fromClient,
  OWN_MAC,
  PEER_MAC,
  SNAT,
  XDP_PASS,
  XDP_TX,
  XdpNode,
} from "../../datapath/xdp_node.ts";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, repeat: { type: "string", default: "20000" } },
});
const rounds = Number(options.rounds), repeat = Number(options.repeat);
const FIRST_PORT = 33000, NEW_FLOWS = 10_000;

interface Path {
  name: string;
  data: Uint8Array<ArrayBuffer>;
  /** Where the port is that tells flows apart: behind the IP header. */
  portAt: number;
  flows: number;
  verdict: number;
  cilium: string;
  /** Every repeat is a new flow. */
  fresh?: boolean;
}

const made = await XdpNode.open();
try {
  const out = new URL("../../../.build/bench", import.meta.url).pathname;
  Deno.mkdirSync(out, { recursive: true });
  const source = new URL("xdp_dispatch.c", import.meta.url).pathname;
  await compile(source, `${out}/xdp_dispatch.o`, { inputs: [source] });
  using bench = BpfObject.openFile(`${out}/xdp_dispatch.o`);
  bench.load(new Gate(new StructuralVerifier()));
  const dispatch = bench.program("dispatch"), empty = bench.program("empty");
  const paths: Path[] = [];
  for (const [i, f] of FAMILIES.entries()) {
    const l4 = i === 0 ? 34 : 54, name = i === 0 ? "v4" : "v6";
    const client = (port: number, flags: number, change: Partial<PacketSpec> = {}) =>
      fromClient({ from: f.client, to: f.node, dport: port, flags, payload: Array(60).fill(7), ...change });
    const answer = packet({
      from: f.far,
      to: f.node,
      sport: 8080,
      dport: FIRST_PORT,
      flags: ACK,
      payload: Array(60).fill(7),
      macTo: OWN_MAC,
      macFrom: PEER_MAC,
    });

    for (const flows of [1, 10_000]) {
      const many = flows === 1 ? "1 flow" : "10k flows";
      const one = flows === 1;
      paths.push(
        {
          name: `SNAT, established, ${name}, ${many}`,
          data: client(SNAT, ACK),
          portAt: l4,
          flows,
          verdict: XDP_TX,
          cilium: one ? "660" : "-",
        },
        {
          name: `SNAT, answer, ${name}, ${many}`,
          data: answer,
          portAt: l4 + 2,
          flows,
          verdict: XDP_TX,
          cilium: one ? "513" : "-",
        },
        {
          name: `DSR, established, ${name}, ${many}`,
          data: client(DSR, ACK),
          portAt: l4,
          flows,
          verdict: XDP_TX,
          cilium: one ? "421-475" : "-",
        },
      );
    }
    paths.push(
      {
        name: `SNAT, new, fresh keys, ${name}`,
        data: client(SNAT, SYN),
        portAt: l4,
        flows: NEW_FLOWS,
        verdict: XDP_TX,
        cilium: "2580-3070",
        fresh: true,
      },
      {
        name: `no service, ${name}`,
        data: client(30099, ACK),
        portAt: l4,
        flows: 1,
        verdict: XDP_PASS,
        cilium: "119",
      },
    );
  }
  const context = (length: number) => {
    const ctx = new Uint8Array(24), view = new DataView(ctx.buffer);
    view.setUint32(4, length, true);
    view.setUint32(12, made.ifindex, true);
    return ctx;
  };
  const run = (program: BpfProgram, path: Path, times: number) => {
    bench.openMap("bench_target").update(u32(0), u32(program.fd));
    const plan = new Uint8Array(16 + 80), view = new DataView(plan.buffer);
    [path.flows, path.flows, FIRST_PORT, path.portAt].forEach((value, at) =>
      view.setUint32(at * 4, value, true)
    );
    plan.set(path.data.subarray(0, 80), 16);
    bench.openMap("bench_plan").update(u32(0), plan);
    const { data } = path;
    const result = made.netns.enter(() =>
      dispatch.testRun({ data, ctx: context(data.length), repeat: times })
    );
    const wanted = program === empty ? XDP_PASS : path.verdict;
    if (result.retval !== wanted) {
      throw new Error(`${path.name}: verdict ${result.retval}, expected ${wanted}`);
    }
    return result.durationNs;
  };
  const forget = () => {
    const nat = made.node.map("weir_nat");
    for (const [key] of nat.entries()) nat.delete(key);
  };
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1];
  console.log(`xdp_netdev, net ns, median of ${rounds} rounds\n\n| path | net ns | Cilium |\n|---|---|---|`);
  for (const path of paths) {
    const times = path.fresh ? path.flows : Math.max(repeat, path.flows * 2);
    const nets: number[] = [];
    if (!path.fresh && !path.name.includes("answer")) {
      forget();
      run(made.node.program("xdp_netdev"), path, path.flows);
    }
    if (path.name.includes("answer")) {
      forget();
      // The questions first.
      run(made.node.program("xdp_netdev"), paths[paths.indexOf(path) - 1], path.flows);
    }
    for (let i = 0; i < rounds; i++) {
      if (path.fresh) forget();
      made.node.drainEvents();
      const base = run(empty, path, times);
      nets.push(run(made.node.program("xdp_netdev"), path, times) - base);
    }
    console.log(`| ${path.name} | ${median(nets)} | ${path.cilium} |`);
  }
} finally {
  await made.close();
}
