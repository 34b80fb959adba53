/* WV0107: `count` */
#include "words.h"
SEC("tc")
int reserve(struct __sk_buff *skb)
{
	__u32 count = skb->len;
	void *record = bpf_ringbuf_reserve(&ring, count, 0); /* here */
	if (record)
		bpf_ringbuf_discard(record, 0);
	return 0;
}
LICENSE_GPL;
