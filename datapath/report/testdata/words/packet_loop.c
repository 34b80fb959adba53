/* WV0070: `data` loop without a bound */
// fix: Bound the loop
#include "words.h"
SEC("xdp")
int sum(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 total = 0;

	while (data + 1 <= end) {
		total += *data; /* here */
		data++;
	}
	return total & 1;
}
LICENSE_GPL;
