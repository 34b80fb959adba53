// What a helper returns.
import * as E from "./gen/codes";
import * as C from "./contract";
import { MAP_ARRAY_OF_MAPS, MAP_HASH_OF_MAPS, MAP_XSKMAP } from "./map_type";
import {
  B_MPTCP,
  B_REGS,
  B_REQUEST,
  B_SOCKET,
  B_TASK,
  B_TCP,
  B_TCP6,
  B_TIMEWAIT,
  B_UDP6,
  B_UNIX,
  setClass,
} from "./btf";
import { alloc, cast, mapIndex, sizeMax } from "./current_call";
import { isSockmap } from "./call_socket";
import { setRangeS, setRangeU } from "./number";
import { failIS } from "./outcome";
import { hasLock } from "./program";
import { acquire } from "./reference";
import {
  F_NULL,
  F_RINGBUF,
  F_TRUSTED,
  K_MAP,
  K_MEM,
  K_SKC,
  K_SOCK,
  K_TCP,
  K_VALUE,
  K_XSK,
  Reg,
  setKind,
  setUnknown,
} from "./reg";
import { maps } from "./request";
import { freshId, reg } from "./run";

/// `found`: a lookup of an element that is always there.
export function setResult(i: i32, id: i32, flags: u8, found: bool): bool {
  const r0 = reg(0);
  switch (C.helperReturn(id)) {
    case C.R_VOID:
      return true;
    case C.R_INT:
      if (flags & 32) setRangeS(r0, -4095, sizeMax);
      // 0 or an error number: the kernel's, or what bpf_set_retval() was let through with
      else if (id == C.H_GET_RETVAL) setRangeS(r0, -4095, 0);
      else setUnknown(r0);
      return true;
    case C.R_CPU:
      setRangeU(r0, 0, 8191);
      return true;
    case C.R_VALUE:
    case C.R_VALUE_NULL: {
      const m = maps[mapIndex];
      if (m.type == MAP_ARRAY_OF_MAPS || m.type == MAP_HASH_OF_MAPS) {
        if (m.inner < 0) return failIS(E.UNSUPPORTED_MAP, i, <i32> m.handle, m.type.toString());
        setKind(r0, K_MAP);
        r0.map = m.inner;
      } else if (isSockmap(m.type)) {
        setKind(r0, K_SOCK);
        const ref = acquire(i, K_SOCK);
        if (ref == 0) return false;
        r0.ref = ref;
        r0.id = ref;
        r0.flags = F_NULL;
        return true;
      } else if (m.type == MAP_XSKMAP) {
        setKind(r0, K_XSK);
      } else {
        setKind(r0, K_VALUE);
        r0.map = mapIndex;
      }
      if (found || C.helperReturn(id) == C.R_VALUE) {
        if (r0.kind == K_VALUE && hasLock(r0.map, -1)) r0.id = freshId();
        return true;
      }
      r0.flags = F_NULL;
      r0.id = freshId();
      return true;
    }
    case C.R_MEM_NULL: {
      const ref = acquire(i, K_MEM);
      if (ref == 0) return false;
      setKind(r0, K_MEM);
      r0.flags = F_NULL | F_RINGBUF;
      r0.size = <i32> alloc;
      r0.ref = ref;
      r0.id = ref;
      return true;
    }
    case C.R_SOCK_NULL:
    case C.R_SKC_NULL:
    case C.R_TCP_NULL: {
      const ret = C.helperReturn(id);
      const acquires = id == C.H_SK_LOOKUP_TCP || id == C.H_SK_LOOKUP_UDP || id == C.H_SKC_LOOKUP_TCP;
      const ref = acquires ? acquire(i, K_SOCK) : cast;
      if (acquires && ref == 0) return false;
      setKind(r0, ret == C.R_SOCK_NULL ? K_SOCK : ret == C.R_SKC_NULL ? K_SKC : K_TCP);
      r0.flags = F_NULL;
      r0.ref = ref;
      r0.id = acquires ? ref : freshId();
      return true;
    }
    case C.R_BTASK:
      return setClass(i, r0, B_TASK, F_TRUSTED, 0);
    case C.R_BREGS:
      return setClass(i, r0, B_REGS, 0, 0);
    case C.R_BTCP6_NULL:
      return setCast(i, r0, B_TCP6, cast);
    case C.R_BTCP_NULL:
      return setCast(i, r0, B_TCP, cast);
    case C.R_BTW_NULL:
      return setCast(i, r0, B_TIMEWAIT, cast);
    case C.R_BREQ_NULL:
      return setCast(i, r0, B_REQUEST, cast);
    case C.R_BUDP6_NULL:
      return setCast(i, r0, B_UDP6, cast);
    case C.R_BUNIX_NULL:
      return setCast(i, r0, B_UNIX, cast);
    case C.R_BMPTCP_NULL:
      return setCast(i, r0, B_MPTCP, cast);
    case C.R_BSOCKET_NULL:
      return setCast(i, r0, B_SOCKET, 0);
    default:
      return failIS(E.UNSUPPORTED_HELPER, i, id, C.helperName(id));
  }
}

function setCast(i: i32, r0: Reg, c: u32, cast: u32): bool {
  if (!setClass(i, r0, c, F_NULL, freshId())) return false;
  r0.ref = cast;
  return true;
}
