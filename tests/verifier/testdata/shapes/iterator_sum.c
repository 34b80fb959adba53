// accepted: a loop over numbers of which nobody knows how many; what it adds up is widened.
#include "iterator.h"
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u8[64]); } cells SEC(".maps");
SEC("tc") int sum(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u8 *cell = bpf_map_lookup_elem(&cells, &zero);
  if (!cell) return 0;
  __u64 total = 0;
  int *i;
  FOR(i, 0, skb->len) {
    int at = *i;
    if (at < 0 || at >= 64) break;
    total += cell[at];
    if (skb->mark & 1) total ^= at;
  }
  return total & 1;
}
char _license[] SEC("license") = "GPL";
