/**
 * ns per packet of established flows while the ipcache changes 100 times a second, beside a quiet one in the same run.
 *
 *     sudo deno run -A tests/bench/datapath/revision_bench.ts [--rounds N] [--flows N] [--rate N]
 *
 * Should show: a change anywhere costs the other flows next to nothing; "all flows" is what each change cost before flows knew
 * what they depend on.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { BpfObject, Gate, StructuralVerifier, u32 } from "@weir/loader";
import { compile } from "../../../datapath/bpf/build.ts";
import { TestNode } from "../../datapath/node.ts";
import { ACK, address, packet } from "../../datapath/packet.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    flows: { type: "string", default: "10000" },
    rate: { type: "string", default: "100" },
  },
});
const flows = Number(options.flows), rate = Number(options.rate);
const CHUNK = 20_000, CHUNKS = 40, FIRST_PORT = 1024;

const node = await TestNode.open({ weir_events: 32 << 20 });
const out = new URL("../../../.build/bench", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
const source = new URL("dispatch.c", import.meta.url).pathname;
await compile(source, `${out}/dispatch.o`, { inputs: [source] });
const bench = BpfObject.openFile(`${out}/dispatch.o`);
bench.load(new Gate(new StructuralVerifier()));
const dispatch = bench.program("dispatch"), empty = bench.program("empty");
const device = node.addDevice();
node.addEndpoint({ id: 1, identity: 1000, ipv4: "10.0.1.10", ipv6: "fd00:1::10", ifindex: device });
node.setIpcache("10.0.2.20", 1002, "192.0.2.2");

const frame = packet({ from: "10.0.1.10", to: "10.0.2.20", flags: ACK, payload: new Array(60).fill(7) });
function run(program: { fd: number }, times: number): number {
  bench.openMap("bench_target").update(u32(0), u32(program.fd));
  const plan = new Uint8Array(16 + 80);
  new Uint32Array(plan.buffer, 0, 4).set([flows, flows, FIRST_PORT, 34]);
  plan.set(frame.subarray(0, 80), 16);
  bench.openMap("bench_plan").update(u32(0), plan);
  const ctx = new Uint8Array(192);
  new DataView(ctx.buffer).setUint32(40, device, true);
  return dispatch.testRun({ data: frame, ctx, repeat: times }).durationNs;
}

/** The i-th change: another address, block or wide block each time. */
const CHANGES: Record<string, ((i: number) => [string, number]) | undefined> = {
  quiet: undefined,
  "of single addresses": (i) => [`10.${i >> 8 & 255}.${i & 255}.${i * 7 & 255}`, 128],
  "of /24 prefixes": (i) => [`10.${i >> 8 & 255}.${i & 255}.0`, 96 + 24],
  "of /16 prefixes elsewhere": (i) => [`${20 + i % 100}.${i & 255}.0.0`, 96 + 16],
  "of all flows": () => ["0.0.0.0", 96],
};
const program = node.program("from_endpoint");
const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1];
const found = new Map<string, number[]>(Object.keys(CHANGES).map((name) => [name, []]));
let change = 0;
try {
  run(program, flows * 2);
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const [name, next] of Object.entries(CHANGES)) {
      let total = 0, due = 0;
      for (let chunk = 0; chunk < CHUNKS; chunk++) {
        const ns = run(program, CHUNK);
        total += ns;
        // `rate` changes for each second that packets were on their way
        for (due += ns * CHUNK / 1e9 * rate; next !== undefined && due >= 1; due--) {
          const [text, length] = next(change++);
          node.revise(address(text), length);
        }
        node.drainEvents();
      }
      found.get(name)!.push(total / CHUNKS - run(empty, CHUNK));
    }
  }
  console.log(`${flows} established flows into the tunnel, ${rate} changes a second, net ns per packet\n`);
  console.log("| changes | ns | to quiet |\n|---|---|---|");
  const quiet = median(found.get("quiet")!);
  for (const [name, list] of found) {
    console.log(`| ${name} | ${Math.round(median(list))} | ${(median(list) / quiet).toFixed(2)} |`);
  }
} finally {
  bench.close();
  node[Symbol.dispose]();
}
