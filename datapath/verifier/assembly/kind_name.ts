// Names of kinds of registers for reports.
import { structName } from "./btf";
import {
  F_NULL,
  K_BTF,
  K_CTX,
  K_END,
  K_FLOW,
  K_FP,
  K_FUNC,
  K_ITER,
  K_MAP,
  K_MEM,
  K_META,
  K_NONE,
  K_NUM,
  K_PKT,
  K_SKC,
  K_SOCK,
  K_TCP,
  K_VALUE,
  K_XSK,
  Reg,
} from "./reg";

export function kindName(r: Reg): string {
  const n = (r.flags & F_NULL) ? " or NULL" : "";
  switch (r.kind) {
    case K_NONE:
      return "uninitialised register";
    case K_NUM:
      return "number";
    case K_CTX:
      return "context pointer";
    case K_MAP:
      return "map" + n;
    case K_VALUE:
      return "map value" + n;
    case K_FP:
      return "stack pointer";
    case K_PKT:
      return "packet pointer";
    case K_META:
      return "packet metadata pointer";
    case K_END:
      return "end of packet";
    case K_SOCK:
      return "socket" + n;
    case K_SKC:
      return "socket (common)" + n;
    case K_TCP:
      return "TCP socket" + n;
    case K_XSK:
      return "XDP socket" + n;
    case K_MEM:
      return "memory" + n;
    case K_BTF:
      return (r.map > 0 ? "pointer to " + structName(r.map) : "kernel pointer") + n;
    case K_FLOW:
      return "flow keys";
    case K_ITER:
      return "iterator";
    case K_FUNC:
      return "function";
    default:
      return "map key";
  }
}
