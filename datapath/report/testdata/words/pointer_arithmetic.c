/* WV0041: `*=` */
#include "words.h"
SEC("tc")
int multiply(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);

	if (!session)
		return 0;
	asm volatile("%0 *= 2" : "+r"(session)); /* here */
	return session->packets;
}
LICENSE_GPL;
