// accepted: a table searched row by row; the visits stay few.
#include "iterator.h"
struct row { __u32 cell[16]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 64); __type(key, __u32); __type(value, struct row); } rows SEC(".maps");
SEC("xdp") int search(struct xdp_md *ctx) {
  __u32 wanted = ctx->ingress_ifindex;
  int *r, *c;
  FOR(r, 0, 64) {
    __u32 key = *r;
    struct row *row = bpf_map_lookup_elem(&rows, &key);
    if (!row) continue;
    FOR(c, 0, 16) {
      __u32 at = *c;
      if (at >= 16) break;
      if (row->cell[at] == wanted) return XDP_PASS;
      if (row->cell[at] == 0) row->cell[at] = wanted;
    }
  }
  return XDP_DROP;
}
char _license[] SEC("license") = "GPL";
