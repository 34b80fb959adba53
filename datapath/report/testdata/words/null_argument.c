/* WV0104: `session` */
#include "words.h"
SEC("tc")
int update(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);
	bpf_map_update_elem(&sessions, &key, session, 0); /* here */
	return 0;
}
LICENSE_GPL;
