/* WV0048 strict: */
#include "words.h"
SEC("tc")
int compare(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session = bpf_map_lookup_elem(&sessions, &key);
	if ((void *)session < (void *)skb) /* here */
		return 1;
	return 0;
}
LICENSE_GPL;
