/* WV0049 strict: */
#include "words.h"
SEC("tc")
int leak(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);
	if (session)
		session->bytes = (long)skb; /* here */
	return 0;
}
LICENSE_GPL;
