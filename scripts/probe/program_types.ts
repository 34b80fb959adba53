/**
 * The program types that a kernel is asked about, under the names that the tables use. Names and order are
 * those of the tables in the verifier's profile: append only.
 *
 * @module
 */

/** A program type, with its attach type where the kernel's rules depend on it. */
export interface ProbedType {
  readonly name: string;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  /** `enum bpf_attach_type`. */
  readonly attach: number;
  /** `BPF_F_*` flags that the type needs. */
  readonly flags: number;
}

const SLEEPABLE = 16;

/** All of them. */
export const PROBED_TYPES: readonly ProbedType[] = ([
  ["socket_filter", 1, 0],
  ["sched_cls", 3, 0],
  ["sched_act", 4, 0],
  ["xdp", 6, 37],
  ["xdp/devmap", 6, 33],
  ["xdp/cpumap", 6, 35],
  ["cgroup_skb/ingress", 8, 0],
  ["cgroup_skb/egress", 8, 1],
  ["cgroup_sock/create", 9, 2],
  ["cgroup_sock/release", 9, 34],
  ["cgroup_sock/post_bind4", 9, 12],
  ["cgroup_sock/post_bind6", 9, 13],
  ["lwt_in", 10, 0],
  ["lwt_out", 11, 0],
  ["lwt_xmit", 12, 0],
  ["sock_ops", 13, 3],
  ["sk_skb", 14, 0],
  ["cgroup_device", 15, 6],
  ["sk_msg", 16, 7],
  ["bind4", 18, 8],
  ["bind6", 18, 9],
  ["connect4", 18, 10],
  ["connect6", 18, 11],
  ["sendmsg4", 18, 14],
  ["sendmsg6", 18, 15],
  ["recvmsg4", 18, 19],
  ["recvmsg6", 18, 20],
  ["getpeername4", 18, 29],
  ["getpeername6", 18, 30],
  ["getsockname4", 18, 31],
  ["getsockname6", 18, 32],
  ["lwt_seg6local", 19, 0],
  ["sk_reuseport", 21, 39],
  ["flow_dissector", 22, 17],
  ["cgroup_sysctl", 23, 18],
  ["cgroup_getsockopt", 25, 21],
  ["cgroup_setsockopt", 25, 22],
  ["sk_lookup", 30, 36],
  ["netfilter", 32, 45],
  ["kprobe", 2, 0],
  ["tracepoint", 5, 0],
  ["perf_event", 7, 0],
  ["raw_tracepoint", 17, 0],
  ["syscall", 31, 0],
] as [string, number, number][]).map(([name, type, attach]) => ({
  name,
  type,
  attach,
  flags: name === "syscall" ? SLEEPABLE : 0,
}));

/** The probed type of that name. */
export function probedType(name: string): ProbedType {
  const found = PROBED_TYPES.find((type) => type.name === name);
  if (found === undefined) throw new Error(`No probed type ${name}`);
  return found;
}
