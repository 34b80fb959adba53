/* WV0108: `ring` ringbuf */
#include "words.h"
SEC("tc")
int look(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	return bpf_map_delete_elem(&ring, &key); /* here */
}
LICENSE_GPL;
