/* WV0075: `record` */
#include "words.h"
SEC("tc")
int fill(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&ring, 16, 0);
	if (!record)
		return 0;
	record[2] = skb->len; /* here */
	bpf_ringbuf_submit(record, 0);
	return 0;
}
LICENSE_GPL;
