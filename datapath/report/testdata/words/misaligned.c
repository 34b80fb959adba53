/* WV0078 strict: `session` */
#include "words.h"
SEC("tc")
int read(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);
	if (!session)
		return 0;
	return *(__u32 *)((char *)session + 2); /* here */
}
LICENSE_GPL;
