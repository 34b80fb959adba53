/* WV0079: `data` */
#include "words.h"
SEC("xdp")
int add(struct xdp_md *ctx)
{
	__u64 *data = (void *)(long)ctx->data;
	if ((void *)(data + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	__sync_fetch_and_add(data, 1); /* here */
	return XDP_PASS;
}
LICENSE_GPL;
