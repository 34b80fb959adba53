/* WV0141: pick() */
#include "words.h"
__attribute__((noinline)) struct session *pick(struct __sk_buff *skb)
{
	__u32 key = skb->mark; /* here */
	return bpf_map_lookup_elem(&sessions, &key);
}
SEC("tc")
int sum(struct __sk_buff *skb)
{
	return pick(skb) != 0;
}
LICENSE_GPL;
