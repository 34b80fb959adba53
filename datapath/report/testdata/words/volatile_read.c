/* WV0061: `session` */
#include "words.h"
SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);
	return *(volatile typeof(session->packets) *)session; /* here */
}
LICENSE_GPL;
