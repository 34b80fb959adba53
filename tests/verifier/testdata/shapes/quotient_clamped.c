// kernel-7.0: safe, but kernels before 7.0 know nothing of a quotient.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct row { __u32 cell[8]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, struct row); } rows SEC(".maps");
SEC("tc") int spread(struct __sk_buff *skb) {
  __u32 key = 0;
  struct row *row = bpf_map_lookup_elem(&rows, &key);
  if (!row) return 0;
  __u32 bucket = skb->len / 200;
  if (bucket > 7) bucket = 7;
  return row->cell[bucket];
}
char _license[] SEC("license") = "GPL";
