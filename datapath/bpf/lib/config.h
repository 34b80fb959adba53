/* The node's configuration and the changing state beside it. */
#pragma once

#include "maps.h"

INLINE const struct config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weir_config, &zero);
}

INLINE __u32 jiffies(void)
{
	return (__u32)bpf_jiffies64();
}
