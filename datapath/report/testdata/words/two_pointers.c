/* WV0045: */
#include "words.h"
SEC("tc")
int add(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return 0;
	return *(char *)((long)session + (long)skb); /* here */
}
LICENSE_GPL;
