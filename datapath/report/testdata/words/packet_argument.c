/* WV0110: `data` */
#include "words.h"
SEC("xdp")
int output(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	if (data + 8 > (__u8 *)(long)ctx->data_end)
		return XDP_PASS;
	return bpf_get_current_comm(data, 8); /* here */
}
LICENSE_GPL;
