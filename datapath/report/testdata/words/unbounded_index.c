/* WV0066 */
#include "words.h"
SEC("tc")
int port_of(struct __sk_buff *skb)
{
	__u32 key = 1, index = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);

	if (!session)
		return 0;
	return session->ports[index & 31]; /* here */
}
LICENSE_GPL;
