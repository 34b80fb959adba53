/* WV0145: `&others` */
#include "words.h"
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct timed); } timers SEC(".maps"), others SEC(".maps");
SEC("tc")
int init(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct timed *held = bpf_map_lookup_elem(&timers, &key);
	if (!held)
		return 0;
	return bpf_timer_init(&held->timer, &others, 1); /* here */
}
LICENSE_GPL;
