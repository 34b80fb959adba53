// accepted: a key longer than the stack, built in a map's value.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct name { char text[1024]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct name); __type(value, __u8); } names SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct name); } scratch SEC(".maps");
SEC("tc") int known(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct name *name = bpf_map_lookup_elem(&scratch, &zero);
  if (!name || bpf_skb_load_bytes(skb, 0, name->text, 64)) return 0;
  return bpf_map_lookup_elem(&names, name) ? 1 : 0;
}
char _license[] SEC("license") = "GPL";
