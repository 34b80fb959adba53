/** What a section's name says about the program in it, as libbpf reads it (its documentation, "Program Types"). @module */
import {
  type AttachTypeName,
  attachTypeNumber,
  PROGRAM_FLAGS,
  type ProgramTypeName,
  programTypeNumber,
} from "./kinds.ts";

/** What is known about a program's kind. */
export interface ProgramKind {
  /** BPF_PROG_TYPE_*. */
  readonly type: number;
  /** Expected attach type, 0 when the section asks for none. */
  readonly attachType: number;
  /** BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS. */
  readonly flags: number;
  /** What follows the slash: the traced function, the hook, the iterator. */
  readonly target?: string;
  /** Where the answer comes from; only `section` is as sure as libbpf. */
  readonly source: "section" | "prefix" | "context" | "guess" | "given";
}

type Row = readonly [name: string, type: ProgramTypeName, attach?: AttachTypeName, flags?: number];

const S = PROGRAM_FLAGS.sleepable, F = PROGRAM_FLAGS.xdpHasFrags;

/** libbpf's table. A name that ends in `+` may be followed by `/target`. */
const ROWS: readonly Row[] = [
  ["socket", "socket_filter"],
  ["sk_reuseport/migrate", "sk_reuseport", "sk_reuseport_select_or_migrate"],
  ["sk_reuseport", "sk_reuseport", "sk_reuseport_select"],
  ["kprobe+", "kprobe"],
  ["uprobe+", "kprobe"],
  ["uprobe.s+", "kprobe", undefined, S],
  ["kretprobe+", "kprobe"],
  ["uretprobe+", "kprobe"],
  ["uretprobe.s+", "kprobe", undefined, S],
  ["kprobe.multi+", "kprobe", "trace_kprobe_multi"],
  ["kretprobe.multi+", "kprobe", "trace_kprobe_multi"],
  ["kprobe.session+", "kprobe", "trace_kprobe_session"],
  ["uprobe.multi+", "kprobe", "trace_uprobe_multi"],
  ["uretprobe.multi+", "kprobe", "trace_uprobe_multi"],
  ["uprobe.session+", "kprobe", "trace_uprobe_session"],
  ["uprobe.multi.s+", "kprobe", "trace_uprobe_multi", S],
  ["uretprobe.multi.s+", "kprobe", "trace_uprobe_multi", S],
  ["uprobe.session.s+", "kprobe", "trace_uprobe_session", S],
  ["ksyscall+", "kprobe"],
  ["kretsyscall+", "kprobe"],
  ["usdt+", "kprobe"],
  ["usdt.s+", "kprobe", undefined, S],
  ["tc/ingress", "sched_cls", "tcx_ingress"],
  ["tc/egress", "sched_cls", "tcx_egress"],
  ["tcx/ingress", "sched_cls", "tcx_ingress"],
  ["tcx/egress", "sched_cls", "tcx_egress"],
  ["tc", "sched_cls"],
  ["classifier", "sched_cls"],
  ["action", "sched_act"],
  ["netkit/primary", "sched_cls", "netkit_primary"],
  ["netkit/peer", "sched_cls", "netkit_peer"],
  ["tracepoint+", "tracepoint"],
  ["tp+", "tracepoint"],
  ["raw_tracepoint+", "raw_tracepoint"],
  ["raw_tp+", "raw_tracepoint"],
  ["raw_tracepoint.w+", "raw_tracepoint_writable"],
  ["raw_tp.w+", "raw_tracepoint_writable"],
  ["tp_btf+", "tracing", "trace_raw_tp"],
  ["fentry+", "tracing", "trace_fentry"],
  ["fmod_ret+", "tracing", "modify_return"],
  ["fexit+", "tracing", "trace_fexit"],
  ["fentry.s+", "tracing", "trace_fentry", S],
  ["fmod_ret.s+", "tracing", "modify_return", S],
  ["fexit.s+", "tracing", "trace_fexit", S],
  ["freplace+", "ext"],
  ["lsm+", "lsm", "lsm_mac"],
  ["lsm.s+", "lsm", "lsm_mac", S],
  ["lsm_cgroup+", "lsm", "lsm_cgroup"],
  ["iter+", "tracing", "trace_iter"],
  ["iter.s+", "tracing", "trace_iter", S],
  ["syscall", "syscall", undefined, S],
  ["xdp.frags/devmap", "xdp", "xdp_devmap", F],
  ["xdp/devmap", "xdp", "xdp_devmap"],
  ["xdp.frags/cpumap", "xdp", "xdp_cpumap", F],
  ["xdp/cpumap", "xdp", "xdp_cpumap"],
  ["xdp.frags", "xdp", "xdp", F],
  ["xdp", "xdp", "xdp"],
  // Names that libbpf had before 1.0.
  ["xdp_devmap/", "xdp", "xdp_devmap"],
  ["xdp_cpumap/", "xdp", "xdp_cpumap"],
  ["perf_event", "perf_event"],
  ["lwt_in", "lwt_in"],
  ["lwt_out", "lwt_out"],
  ["lwt_xmit", "lwt_xmit"],
  ["lwt_seg6local", "lwt_seg6local"],
  ["sockops", "sock_ops", "cgroup_sock_ops"],
  ["sk_skb/stream_parser", "sk_skb", "sk_skb_stream_parser"],
  ["sk_skb/stream_verdict", "sk_skb", "sk_skb_stream_verdict"],
  ["sk_skb/verdict", "sk_skb", "sk_skb_verdict"],
  ["sk_skb", "sk_skb"],
  ["sk_msg", "sk_msg", "sk_msg_verdict"],
  ["lirc_mode2", "lirc_mode2", "lirc_mode2"],
  ["flow_dissector", "flow_dissector", "flow_dissector"],
  ["cgroup_skb/ingress", "cgroup_skb", "cgroup_inet_ingress"],
  ["cgroup_skb/egress", "cgroup_skb", "cgroup_inet_egress"],
  ["cgroup/skb", "cgroup_skb"],
  ["cgroup/sock_create", "cgroup_sock", "cgroup_inet_sock_create"],
  ["cgroup/sock_release", "cgroup_sock", "cgroup_inet_sock_release"],
  ["cgroup/sock", "cgroup_sock", "cgroup_inet_sock_create"],
  ["cgroup/post_bind4", "cgroup_sock", "cgroup_inet4_post_bind"],
  ["cgroup/post_bind6", "cgroup_sock", "cgroup_inet6_post_bind"],
  ["cgroup/bind4", "cgroup_sock_addr", "cgroup_inet4_bind"],
  ["cgroup/bind6", "cgroup_sock_addr", "cgroup_inet6_bind"],
  ["cgroup/connect4", "cgroup_sock_addr", "cgroup_inet4_connect"],
  ["cgroup/connect6", "cgroup_sock_addr", "cgroup_inet6_connect"],
  ["cgroup/connect_unix", "cgroup_sock_addr", "cgroup_unix_connect"],
  ["cgroup/sendmsg4", "cgroup_sock_addr", "cgroup_udp4_sendmsg"],
  ["cgroup/sendmsg6", "cgroup_sock_addr", "cgroup_udp6_sendmsg"],
  ["cgroup/sendmsg_unix", "cgroup_sock_addr", "cgroup_unix_sendmsg"],
  ["cgroup/recvmsg4", "cgroup_sock_addr", "cgroup_udp4_recvmsg"],
  ["cgroup/recvmsg6", "cgroup_sock_addr", "cgroup_udp6_recvmsg"],
  ["cgroup/recvmsg_unix", "cgroup_sock_addr", "cgroup_unix_recvmsg"],
  ["cgroup/getpeername4", "cgroup_sock_addr", "cgroup_inet4_getpeername"],
  ["cgroup/getpeername6", "cgroup_sock_addr", "cgroup_inet6_getpeername"],
  ["cgroup/getpeername_unix", "cgroup_sock_addr", "cgroup_unix_getpeername"],
  ["cgroup/getsockname4", "cgroup_sock_addr", "cgroup_inet4_getsockname"],
  ["cgroup/getsockname6", "cgroup_sock_addr", "cgroup_inet6_getsockname"],
  ["cgroup/getsockname_unix", "cgroup_sock_addr", "cgroup_unix_getsockname"],
  ["cgroup/sysctl", "cgroup_sysctl", "cgroup_sysctl"],
  ["cgroup/getsockopt", "cgroup_sockopt", "cgroup_getsockopt"],
  ["cgroup/setsockopt", "cgroup_sockopt", "cgroup_setsockopt"],
  ["cgroup/dev", "cgroup_device", "cgroup_device"],
  ["struct_ops+", "struct_ops"],
  ["struct_ops.s+", "struct_ops", undefined, S],
  ["sk_lookup", "sk_lookup", "sk_lookup"],
  ["netfilter", "netfilter", "netfilter"],
];

/** Context structures that belong to one program type (the others, pt_regs and void, say nothing). */
const CONTEXTS: Readonly<Record<string, readonly [ProgramTypeName, AttachTypeName?]>> = {
  __sk_buff: ["sched_cls"],
  xdp_md: ["xdp", "xdp"],
  bpf_sock_addr: ["cgroup_sock_addr", "cgroup_inet4_connect"],
  bpf_sock: ["cgroup_sock", "cgroup_inet_sock_create"],
  bpf_sock_ops: ["sock_ops", "cgroup_sock_ops"],
  sk_msg_md: ["sk_msg", "sk_msg_verdict"],
  bpf_sk_lookup: ["sk_lookup", "sk_lookup"],
  sk_reuseport_md: ["sk_reuseport", "sk_reuseport_select"],
  bpf_perf_event_data: ["perf_event"],
  bpf_raw_tracepoint_args: ["raw_tracepoint"],
  bpf_sysctl: ["cgroup_sysctl", "cgroup_sysctl"],
  bpf_sockopt: ["cgroup_sockopt", "cgroup_setsockopt"],
  bpf_cgroup_dev_ctx: ["cgroup_device", "cgroup_device"],
  bpf_nf_ctx: ["netfilter", "netfilter"],
};

/** The name as a program type says it on the command line (`sched_cls`, `tc`, `xdp`, `cgroup/connect4`). */
export function kindOf(name: string): ProgramKind | undefined {
  const asSection = kindOfSection(name);
  if (asSection?.source === "section") return { ...asSection, source: "given" };
  const type = programTypeNumber(name as ProgramTypeName);
  return type > 0 ? { type, attachType: 0, flags: 0, source: "given" } : undefined;
}

/**
 * The kind of the programs in a section. `source` is `prefix` when only libbpf before 1.0 would have taken it (`xdp_prog1`, `classifier/x`).
 * @returns undefined when the name says nothing.
 */
export function kindOfSection(section: string): ProgramKind | undefined {
  // libbpf: a leading '?' means "do not load by default"; what it is does not change.
  const name = section.startsWith("?") ? section.slice(1) : section;
  for (const row of ROWS) {
    const plus = row[0].endsWith("+");
    const base = plus ? row[0].slice(0, -1) : row[0];
    if (name === base) return kind(row, "section");
    if ((plus || base.startsWith("netfilter")) && name.startsWith(`${base}/`)) {
      return kind(row, "section", name.slice(base.length + 1));
    }
  }
  let best: Row | undefined;
  for (const row of ROWS) {
    if (row[0].endsWith("+")) continue;
    if (name.startsWith(row[0]) && (best === undefined || row[0].length > best[0].length)) best = row;
  }
  return best === undefined ? undefined : kind(best, "prefix", name.slice(best[0].length).replace(/^\//, ""));
}

/** The kind that a context parameter's type implies (`xdp_md`, `__sk_buff`, ...). */
export function kindOfContext(structName: string): ProgramKind | undefined {
  const found = Object.hasOwn(CONTEXTS, structName) ? CONTEXTS[structName] : undefined;
  if (found === undefined) return undefined;
  const attachType = found[1] === undefined ? 0 : attachTypeNumber(found[1]);
  return { type: programTypeNumber(found[0]), attachType, flags: 0, source: "context" };
}

/**
 * The last resort for objects without BTF whose sections follow tc's old custom (`2/7` are tail calls, `from-container` entries).
 * @param hint Name of the object file; one with `xdp` in it holds XDP programs.
 */
export function kindOfCustom(section: string, hint: string): ProgramKind | undefined {
  if (!/^(\d+\/\d+|(from|to)-[a-z-]+|ingress|egress|[a-z]*_?entry)$/.test(section)) return undefined;
  const xdp = /xdp/.test(hint);
  return {
    type: programTypeNumber(xdp ? "xdp" : "sched_cls"),
    attachType: xdp ? attachTypeNumber("xdp") : 0,
    flags: 0,
    source: "guess",
  };
}

function kind(row: Row, source: "section" | "prefix", target?: string): ProgramKind {
  return {
    type: programTypeNumber(row[1]),
    attachType: row[2] === undefined ? 0 : attachTypeNumber(row[2]),
    flags: row[3] ?? 0,
    ...(target === undefined || target === "" ? {} : { target }),
    source,
  };
}
