// Fields of sockets.
import { K_SKC, K_TCP, K_XSK } from "./reg";

/// Fields of struct bpf_sock, bpf_tcp_sock and bpf_xdp_sock that programs may read.
export function socketField(kind: u8, at: i32, size: i32): bool {
  if (at < 0 || at & (size - 1)) return false;
  if (kind == K_XSK) return at == 0 && size == 4;
  if (kind == K_TCP) {
    // bytes_received (80) and bytes_acked (88) are 64 bits wide, the rest 32
    if (at == 80 || at == 88) return size == 8;
    return at < 112 && size == 4 && (at < 80 || at >= 96);
  }
  // bound_dev_if family type protocol mark priority | src_ip4 src_ip6[4] src_port dst_port dst_ip4 dst_ip6[4] state rx_queue
  if (at >= 80) return false;
  if (kind == K_SKC) {
    // a common socket has family, addresses, ports, state and bound_dev_if; the rest only a full one
    const ok = at < 8 || (at >= 24 && at < 76);
    if (!ok) return false;
  }
  if (size > 4) return false;
  // the port is 16 bits wide, two bytes of padding follow; type, protocol, mark and others only as they are
  if (at >= 50 && at < 52) return false;
  if (at == 48) return true;
  if (at == 49) return size == 1;
  const narrow = (at >= 4 && at < 16) || (at >= 24 && at < 48) || at >= 52;
  return size == 4 || narrow;
}
