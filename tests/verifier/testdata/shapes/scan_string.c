// accepted: a scan that counts, over a string of at most 1000 bytes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, char[4096]); } paths SEC(".maps");
SEC("tc") int slashes(struct __sk_buff *skb) {
  __u32 zero = 0, n = 0;
  char *path = bpf_map_lookup_elem(&paths, &zero);
  if (!path) return 0;
  for (int i = 0; i < 1000; i++) {
    if (path[i] == 0) break;
    if (path[i] == '/') n++;
  }
  return n;
}
char _license[] SEC("license") = "GPL";
