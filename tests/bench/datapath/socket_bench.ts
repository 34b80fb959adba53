/**
 * ns of the connect hook, from the kernel's own count of run time (`kernel.bpf_stats_enabled`, which adds some 30 ns to each
 * run), less that of a program that does nothing. Real sockets, each new; TCP connects to a port that nobody has.
 *
 *     sudo deno run -A tests/bench/datapath/socket_bench.ts [--times N] [--rounds N]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { attachCgroup, AttachType, BpfObject, Gate, programInfo, StructuralVerifier } from "@weir/loader";
import { compile } from "../../../datapath/bpf/build.ts";
import { TCP, UDP } from "../../datapath/packet.ts";
import { setBackend, setFrontend, setSelection } from "../../datapath/services.ts";
import { cgroupRootHere } from "../../cgroup_root.ts";
import { BACKENDS, SocketNode } from "../../datapath/socket_node.ts";

const { values: options } = parseArgs({
  options: { times: { type: "string", default: "20000" }, rounds: { type: "string", default: "5" } },
});
const times = Number(options.times), rounds = Number(options.rounds);
const SERVICES = 1000;
const STATS = "/proc/sys/kernel/bpf_stats_enabled";
const CASES = [
  { name: "no service, UDP", type: "udp", to: [BACKENDS[0], 9], cilium: "160" },
  { name: "service, new UDP socket", type: "udp", to: ["10.96.0.10", 80], cilium: "743" },
  { name: "no service, TCP", type: "tcp", to: [BACKENDS[0], 9], cilium: "160" },
  { name: "service, new TCP socket", type: "tcp", to: ["10.96.0.10", 80], cilium: "758" },
];

const root = cgroupRootHere();
if (!root) throw new Error("Cannot measure: no cgroup2 is mounted");
const made = await SocketNode.open(root);
const statsBefore = Deno.readTextFileSync(STATS);
try {
  const { node } = made;
  for (const [slot, protocol] of [[1, TCP], [2, UDP]]) {
    setBackend(node, { id: slot, address: BACKENDS[0], port: 9, protocol });
    setSelection(node, slot, [slot]);
    // The one that is measured is the last of many.
    for (let i = 1; i <= SERVICES; i++) {
      setFrontend(node, { address: `10.97.${i >> 8}.${i & 255}`, port: 80, protocol, internal: slot });
    }
    setFrontend(node, { address: "10.96.0.10", port: 80, protocol, service: 1, internal: slot });
  }
  const out = new URL("../../../.build/bench", import.meta.url).pathname;
  Deno.mkdirSync(out, { recursive: true });
  const source = new URL("socket_empty.c", import.meta.url).pathname;
  await compile(source, `${out}/socket_empty.o`, { inputs: [source] });
  using object = BpfObject.openFile(`${out}/socket_empty.o`);
  object.load(new Gate(new StructuralVerifier()));
  const empty = object.program("empty_connect4");
  using _ = attachCgroup(empty.fd, made.cgroup, AttachType.CGROUP_INET4_CONNECT);
  Deno.writeTextFileSync(STATS, "1");
  const client = made.client();
  const measured = async (fd: number, work: () => Promise<unknown>) => {
    const before = programInfo(fd), emptyBefore = programInfo(empty.fd);
    await work();
    const after = programInfo(fd), emptyAfter = programInfo(empty.fd);
    const mean = (a: typeof before, b: typeof before) =>
      (b.runTimeNs - a.runTimeNs) / (b.runCount - a.runCount);
    return mean(before, after) - mean(emptyBefore, emptyAfter);
  };
  const fd = node.program("socket_connect4").fd;
  console.log(`socket_connect4, ${SERVICES} services, median of ${rounds} rounds of ${times}\n`);
  console.log("| path | net ns | Cilium |\n|---|---|---|");
  for (const { name, type, to, cilium } of CASES) {
    const nets: number[] = [];
    for (let i = 0; i < rounds; i++) {
      nets.push(await measured(fd, () => client.do("connects", { type, to, times })));
    }
    nets.sort((a, b) => a - b);
    console.log(`| ${name} | ${Math.round(nets[nets.length >> 1])} | ${cilium} |`);
  }
} finally {
  Deno.writeTextFileSync(STATS, statsBefore);
  await made.close();
}
