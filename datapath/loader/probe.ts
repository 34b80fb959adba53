/**
 * Asks the running kernel what it can do. An answer is yes, no or cannot tell; only yes and no are remembered. Every
 * probe names the kernel version from which mainline has the feature.
 *
 * @module
 */
import { EINVAL } from "./errno.ts";
import { libbpf } from "./library.ts";
import { AttachType } from "./link.ts";
import { BpfCommand, bpfSyscall } from "./syscall.ts";

/** Answer of a probe. */
export type ProbeAnswer = "yes" | "no" | "cannot tell";

/** One feature of the kernel. */
export interface Feature {
  name: string;
  answer: ProbeAnswer;
  sinceKernel: string;
}

interface Probe {
  name: string;
  sinceKernel: string;
  ask: () => ProbeAnswer;
}

const PROG = {
  SCHED_CLS: 3,
  XDP: 6,
  CGROUP_SKB: 8,
  CGROUP_SOCK_ADDR: 18,
  SK_LOOKUP: 30,
  SYSCALL: 31,
} as const;
const MAP = { LRU_HASH: 9, LPM_TRIE: 11, HASH_OF_MAPS: 13, RINGBUF: 27 } as const;
const HELPER = {
  REDIRECT_NEIGH: 152,
  REDIRECT_PEER: 155,
  FOR_EACH_MAP_ELEM: 164,
  LOOP: 181,
  JIFFIES64: 118,
} as const;
const LOOPBACK_IFINDEX = 1;

const PROBES: readonly Probe[] = [
  { name: "tc programs", sinceKernel: "4.1", ask: () => programType(PROG.SCHED_CLS) },
  { name: "tcx links", sinceKernel: "6.6", ask: tcx },
  { name: "XDP programs", sinceKernel: "4.8", ask: () => programType(PROG.XDP) },
  { name: "cgroup skb programs", sinceKernel: "4.10", ask: () => programType(PROG.CGROUP_SKB) },
  {
    name: "cgroup socket address programs",
    sinceKernel: "4.17",
    ask: () => programType(PROG.CGROUP_SOCK_ADDR),
  },
  { name: "socket lookup programs", sinceKernel: "5.9", ask: () => programType(PROG.SK_LOOKUP) },
  { name: "syscall programs", sinceKernel: "5.14", ask: () => programType(PROG.SYSCALL) },
  { name: "LRU hash maps", sinceKernel: "4.10", ask: () => mapType(MAP.LRU_HASH) },
  { name: "LPM trie maps", sinceKernel: "4.11", ask: () => mapType(MAP.LPM_TRIE) },
  { name: "maps of maps", sinceKernel: "4.12", ask: () => mapType(MAP.HASH_OF_MAPS) },
  { name: "ring buffer", sinceKernel: "5.8", ask: () => mapType(MAP.RINGBUF) },
  {
    name: "bpf_redirect_neigh",
    sinceKernel: "5.10",
    ask: () => helper(PROG.SCHED_CLS, HELPER.REDIRECT_NEIGH),
  },
  { name: "bpf_redirect_peer", sinceKernel: "5.10", ask: () => helper(PROG.SCHED_CLS, HELPER.REDIRECT_PEER) },
  {
    name: "bpf_for_each_map_elem",
    sinceKernel: "5.13",
    ask: () => helper(PROG.SCHED_CLS, HELPER.FOR_EACH_MAP_ELEM),
  },
  { name: "bpf_loop", sinceKernel: "5.17", ask: () => helper(PROG.SCHED_CLS, HELPER.LOOP) },
  { name: "bpf_jiffies64", sinceKernel: "5.6", ask: () => helper(PROG.SCHED_CLS, HELPER.JIFFIES64) },
  { name: "BTF of the kernel", sinceKernel: "5.4", ask: kernelBtf },
];

const remembered = new Map<string, ProbeAnswer>();

/** Every feature with its answer. Repeatable; the first call takes some ten milliseconds. */
export function probeKernel(): Feature[] {
  return PROBES.map((probe) => ({
    name: probe.name,
    answer: answerOf(probe),
    sinceKernel: probe.sinceKernel,
  }));
}

/** The answer for one feature by its name. */
export function probeFeature(name: string): ProbeAnswer {
  const probe = PROBES.find((candidate) => candidate.name === name);
  return probe === undefined ? "cannot tell" : answerOf(probe);
}

function answerOf(probe: Probe): ProbeAnswer {
  const known = remembered.get(probe.name);
  if (known !== undefined) return known;
  const answer = probe.ask();
  if (answer !== "cannot tell") remembered.set(probe.name, answer);
  return answer;
}

function fromLibbpf(result: number): ProbeAnswer {
  return result === 1 ? "yes" : result === 0 ? "no" : "cannot tell";
}

function programType(type: number): ProbeAnswer {
  return fromLibbpf(libbpf().libbpf_probe_bpf_prog_type(type, null));
}

function mapType(type: number): ProbeAnswer {
  return fromLibbpf(libbpf().libbpf_probe_bpf_map_type(type, null));
}

function helper(type: number, id: number): ProbeAnswer {
  return fromLibbpf(libbpf().libbpf_probe_bpf_helper(type, id, null));
}

/** BPF_PROG_QUERY of a tcx hook answers EINVAL where there is no tcx. */
function tcx(): ProbeAnswer {
  const attr = new DataView(new ArrayBuffer(64));
  attr.setUint32(0, LOOPBACK_IFINDEX, true);
  attr.setUint32(4, AttachType.TCX_INGRESS, true);
  const result = bpfSyscall(BpfCommand.PROG_QUERY, new Uint8Array(attr.buffer));
  return result >= 0 || result === -2 ? "yes" : result === -EINVAL ? "no" : "cannot tell";
}

function kernelBtf(): ProbeAnswer {
  try {
    Deno.statSync("/sys/kernel/btf/vmlinux");
    return "yes";
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? "no" : "cannot tell";
  }
}
