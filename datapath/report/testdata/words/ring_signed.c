/* WV0075: `record` `index` may be negative */
#include "words.h"
SEC("tc")
int f(struct __sk_buff *skb)
{
	int index = skb->mark;
	__u8 *record = bpf_ringbuf_reserve(&ring, 16, 0);
	if (!record)
		return 0;
	if (index < 16 && index > -5)
		record[index] = 1; /* here */
	bpf_ringbuf_submit(record, 0);
	return 0;
}
LICENSE_GPL;
