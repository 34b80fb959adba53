// What Linux says, in one place: the columns of the kernel profile, helper contracts, context fields.
import * as G from "./gen/tables";
export * from "./gen/tables";

export let column: i32 = -1;

/// Program flags that kernels know (BPF_F_STRICT_ALIGNMENT to BPF_F_TEST_REG_INVARIANTS); all refuse the others.
export const FLAGS_KNOWN: u32 = 0xff;
export const FLAG_SLEEPABLE: u32 = 0x10;
/// Finds the profile's column of a program type and attach type; -1: not in the profile.
export function findColumn(type: i32, attach: i32): i32 {
  switch (type) {
    case 1:
      return G.P_SOCKET_FILTER;
    case 2:
      return G.P_KPROBE;
    case 3:
      return G.P_SCHED_CLS;
    case 4:
      return G.P_SCHED_ACT;
    case 5:
      return G.P_TRACEPOINT;
    case 6:
      return attach == 33
        ? G.P_XDP_DEVMAP
        : attach == 35
        ? G.P_XDP_CPUMAP
        : attach == 0 || attach == 37
        ? G.P_XDP
        : -1;
    case 7:
      return G.P_PERF_EVENT;
    case 8:
      return attach == 0 ? G.P_CGROUP_SKB_INGRESS : attach == 1 ? G.P_CGROUP_SKB_EGRESS : -1;
    case 9:
      return attach == 2 || attach == 0
        ? G.P_CGROUP_SOCK_CREATE
        : attach == 34
        ? G.P_CGROUP_SOCK_RELEASE
        : attach == 12
        ? G.P_CGROUP_SOCK_POST_BIND4
        : attach == 13
        ? G.P_CGROUP_SOCK_POST_BIND6
        : -1;
    case 10:
      return G.P_LWT_IN;
    case 11:
      return G.P_LWT_OUT;
    case 12:
      return G.P_LWT_XMIT;
    case 13:
      return G.P_SOCK_OPS;
    case 14:
      return G.P_SK_SKB;
    case 15:
      return G.P_CGROUP_DEVICE;
    case 16:
      return G.P_SK_MSG;
    case 17:
      return G.P_RAW_TRACEPOINT;
    case 18:
      switch (attach) {
        case 8:
          return G.P_BIND4;
        case 9:
          return G.P_BIND6;
        case 10:
          return G.P_CONNECT4;
        case 11:
          return G.P_CONNECT6;
        case 14:
          return G.P_SENDMSG4;
        case 15:
          return G.P_SENDMSG6;
        case 19:
          return G.P_RECVMSG4;
        case 20:
          return G.P_RECVMSG6;
        case 29:
          return G.P_GETPEERNAME4;
        case 30:
          return G.P_GETPEERNAME6;
        case 31:
          return G.P_GETSOCKNAME4;
        case 32:
          return G.P_GETSOCKNAME6;
        default:
          return -1;
      }
    case 19:
      return G.P_LWT_SEG6LOCAL;
    case 21:
      return attach == 0 || attach == 39 || attach == 40 ? G.P_SK_REUSEPORT : -1;
    case 22:
      return G.P_FLOW_DISSECTOR;
    case 23:
      return G.P_CGROUP_SYSCTL;
    case 25:
      return attach == 21 ? G.P_CGROUP_GETSOCKOPT : attach == 22 ? G.P_CGROUP_SETSOCKOPT : -1;
    case 26:
      switch (attach) {
        case 23:
          return G.P_TP_BTF;
        case 24:
          return G.P_FENTRY;
        case 25:
          return G.P_FEXIT;
        case 26:
          return G.P_FMOD_RET;
        case 28:
          return G.P_ITER;
        default:
          return -1;
      }
    case 30:
      return attach == 36 ? G.P_SK_LOOKUP : -1;
    case 31:
      return attach == 0 ? G.P_SYSCALL : -1;
    case 32:
      return attach == 45 ? G.P_NETFILTER : -1;
    default:
      return -1;
  }
}

/// Probes that are called at entry and at return of a function (KPROBE_SESSION, UPROBE_SESSION).
export function isSession(type: i32, attach: i32): bool {
  return type == 2 && (attach == 56 || attach == 57);
}
export function setColumn(c: i32): void {
  column = c;
}

/// Programs of type tracing: their contexts are the arguments of what they are attached to.
export function isTracing(): bool {
  return column >= G.P_TP_BTF;
}

/// The kind of a context access, 0 if it is not allowed. Bit 5: nullable.
export function contextAccess(off: i32, size: u32, write: bool): u32 {
  if (off < 0 || off > 0xffff) return 0;
  const want = <u32> off | (size << 16) | (write ? 1 << 20 : 0);
  // entries are sorted by offset as the probe wrote them
  let lo = <i32> G.CTX_START[column], hi = <i32> G.CTX_END[column];
  while (lo < hi) {
    const m = (lo + hi) >> 1;
    if ((G.CTX[m] & 0xffff) < <u32> off) lo = m + 1;
    else hi = m;
  }
  const end = <i32> G.CTX_END[column];
  for (let i = lo; i < end && (G.CTX[i] & 0xffff) == <u32> off; i++) {
    if ((G.CTX[i] & 0x1fffff) == want) return G.CTX[i] >> 24;
  }
  return 0;
}

/// Whether programs of this type may write to packets: 2 read and write, 1 read only, 0 no packet pointers.
export function packetAccess(): i32 {
  switch (column) {
    case G.P_SCHED_CLS:
    case G.P_SCHED_ACT:
    case G.P_XDP:
    case G.P_XDP_DEVMAP:
    case G.P_XDP_CPUMAP:
    case G.P_LWT_XMIT:
    case G.P_SK_SKB:
    case G.P_SK_MSG:
      return 2;
    case G.P_CGROUP_SKB_INGRESS:
    case G.P_CGROUP_SKB_EGRESS:
    case G.P_LWT_IN:
    case G.P_LWT_OUT:
    case G.P_LWT_SEG6LOCAL:
    case G.P_SK_REUSEPORT:
    case G.P_FLOW_DISSECTOR:
      return 1;
    case G.P_CGROUP_GETSOCKOPT:
    case G.P_CGROUP_SETSOCKOPT:
      return 2; // optval
    default:
      return 0;
  }
}

export function argKind(helper: i32, arg: u32): u8 {
  if (helper <= 0 || helper > 255) return G.A_NONE;
  return G.CONTRACT[helper * 8 + 1 + arg];
}

export function helperFlags(helper: i32): u8 {
  return helper > 0 && helper < 256 ? G.CONTRACT[helper * 8] : 0;
}

export function helperReturn(helper: i32): u8 {
  return helper > 0 && helper < 256 ? G.CONTRACT[helper * 8 + 1] : 0;
}

export function helperName(helper: i32): string {
  const names = G.HELPER_NAMES.split(" ");
  if (helper <= 0 || helper >= names.length || names[helper].length == 0) return "helper";
  return "bpf_" + names[helper];
}

export function helperAllowed(helper: i32): bool {
  return helper > 0 && helper < 256 && ((G.ALLOWED[helper] >> column) & 1) != 0;
}
