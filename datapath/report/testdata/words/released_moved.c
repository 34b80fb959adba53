/* WV0123: `record + 1` */
#include "words.h"
SEC("tc")
int submit(struct __sk_buff *skb)
{
	__u64 *record = bpf_ringbuf_reserve(&ring, 16, 0);
	if (!record)
		return 0;
	bpf_ringbuf_submit(record + 1, 0); /* here */
	return 0;
}
LICENSE_GPL;
