/* WV0043: `index` may be negative */
// fix: not below 0
#include "words.h"
SEC("tc")
int port_of(struct __sk_buff *skb)
{
	__u32 key = 1;
	int index = (int)skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);

	if (!session || index >= 8)
		return 0;
	return session->ports[index]; /* here */
}
LICENSE_GPL;
