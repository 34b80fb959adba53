/* The node's configuration and the changing state beside it. */
#pragma once

#include "maps.h"

INLINE const struct config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weir_config, &zero);
}

/* Read before anything that is decided under it: a verdict may be newer than its revision, never older. */
INLINE __u32 ipcache_revision(void)
{
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&weir_state, &zero);

	return state ? READ_ONCE(state->ipcache_revision) : 0;
}

INLINE __u32 jiffies(void)
{
	return (__u32)bpf_jiffies64();
}
