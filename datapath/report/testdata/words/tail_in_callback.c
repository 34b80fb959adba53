/* WV0134: each() */
#include "words.h"
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); } programs SEC(".maps");
static long each(__u32 index, struct __sk_buff **skb)
{
	bpf_tail_call(*skb, &programs, 0);
	return 0;
}
SEC("tc")
int loop(struct __sk_buff *skb)
{
	bpf_loop(8, each, &skb, 0);
	return 0;
}
LICENSE_GPL;
