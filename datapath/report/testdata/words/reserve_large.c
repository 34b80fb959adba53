/* WV0107: `1ull << 30` too large */
#include "words.h"
SEC("tc")
int reserve(struct __sk_buff *skb)
{
	void *record = bpf_ringbuf_reserve(&ring, 1ull << 30, 0); /* here */
	if (record)
		bpf_ringbuf_discard(record, 0);
	return 0;
}
LICENSE_GPL;
