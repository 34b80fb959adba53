/* WV0070: `ip` 14 */
#include "words.h"
SEC("xdp")
int f(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	return ip->protocol; /* here */
}
LICENSE_GPL;
