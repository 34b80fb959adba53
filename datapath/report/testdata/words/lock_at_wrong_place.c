/* WV0125: `&held->count` */
#include "words.h"
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct locked); } locks SEC(".maps");
SEC("tc")
int lock(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct locked *held = bpf_map_lookup_elem(&locks, &key);
	if (!held)
		return 0;
	bpf_spin_lock((void *)&held->count); /* here */
	bpf_spin_unlock((void *)&held->count);
	return 0;
}
LICENSE_GPL;
