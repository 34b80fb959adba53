// What Linux says, in one place: the columns of the kernel profile, helper contracts, context fields.
import * as G from "./gen/tables";
export * from "./gen/tables";

export let column: i32 = -1;

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
      return G.P_SK_REUSEPORT;
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
      return G.P_SK_LOOKUP;
    case 31:
      return G.P_SYSCALL;
    case 32:
      return G.P_NETFILTER;
    default:
      return -1;
  }
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
  let lo = <i32> G.CTX_START[column], hi = <i32> G.CTX_START[column + 1];
  while (lo < hi) {
    const m = (lo + hi) >> 1;
    if ((G.CTX[m] & 0xffff) < <u32> off) lo = m + 1;
    else hi = m;
  }
  const end = <i32> G.CTX_START[column + 1];
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
  if (helper <= 0 || helper > 255 || G.HELPER_NAMES[helper].length == 0) return "helper";
  return "bpf_" + G.HELPER_NAMES[helper];
}
export function helperAllowed(helper: i32): bool {
  return helper > 0 && helper < 256 && ((G.ALLOWED[helper] >> column) & 1) != 0;
}

/// Whether a helper works on a map type, as check_map_func_compatibility() of the kernel has it.
export function mapFits(helper: i32, type: u32): bool {
  // what a map type demands of helpers
  switch (type) {
    case 3:
      return helper == 12;
    case 4:
      return helper == 22 || helper == 25 || helper == 55 || helper == 111 || helper == 121;
    case 27:
      return helper == 130 || helper == 131 || helper == 134;
    case 7:
      return helper == 27;
    case 8:
      return helper == 33 || helper == 37;
    case 19:
    case 21:
      return helper == 81;
    case 14:
    case 25:
      return helper == 51 || helper == 1;
    case 16:
      return helper == 51;
    case 17:
      return helper == 51 || helper == 1;
    case 12:
    case 13:
      return helper == 1;
    case 15:
      return helper == 52 || helper == 53 || helper == 3 || helper == 60 || helper == 82 || helper == 1 ||
        helper == 2;
    case 18:
      return helper == 72 || helper == 70 || helper == 3 || helper == 71 || helper == 82 || helper == 1 ||
        helper == 2;
    case 20:
      return helper == 82;
    case 22:
    case 23:
      return helper >= 87 && helper <= 89;
    case 24:
      return helper == 107 || helper == 108;
    case 30:
      return helper == 89 || helper == 87;
    case 29:
      return helper == 156 || helper == 157;
    case 32:
      return helper == 210 || helper == 211;
    case 26:
    case 28:
    case 31:
    case 33:
      return false;
    default:
      break;
  }
  // what a helper demands of maps
  switch (helper) {
    case 12:
      return type == 3;
    case 22:
    case 25:
    case 55:
    case 111:
    case 121:
      return type == 4;
    case 156:
    case 157:
      return type == 29;
    case 210:
    case 211:
      return type == 32;
    case 130:
    case 131:
    case 134:
      return type == 27;
    case 27:
      return type == 7;
    case 33:
    case 37:
      return type == 8;
    case 51:
      return type == 14 || type == 25 || type == 16 || type == 17;
    case 52:
    case 53:
    case 60:
      return type == 15;
    case 70:
    case 71:
    case 72:
      return type == 18;
    case 81:
      return type == 19 || type == 21;
    case 82:
      return type == 20 || type == 15 || type == 18;
    case 87:
    case 88:
      return type == 22 || type == 23;
    case 89:
      return type == 22 || type == 23 || type == 30;
    case 107:
    case 108:
      return type == 24;
    case 195:
      return type == 6 || type == 5 || type == 10;
    case 164:
      return type == 1 || type == 2 || type == 5 || type == 6 || type == 9 || type == 10;
    default:
      return true;
  }
}
