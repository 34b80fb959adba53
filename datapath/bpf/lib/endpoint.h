/* Endpoints of this node: by interface, by cgroup, by address, by id. */
#pragma once

#include "maps.h"

INLINE struct endpoint *endpoint_get(__u32 id)
{
	return bpf_map_lookup_elem(&weir_endpoints, &id);
}

/* The host's record, null while no policy selects the node. (Before an upgrade a pod may have had its number.) */
INLINE const struct endpoint *host_endpoint(void)
{
	const struct endpoint *host = endpoint_get(ENDPOINT_HOST);

	return host && unlikely(host->policy) && !host->ifindex && !host->cgroup_id ? host : 0;
}

/* Interface index -> id and record, 0 if it is no endpoint's. The array in front of the hash saves its 30 ns; its answer counts
 * only if the endpoint's record names this interface. */
INLINE __u32 endpoint_by_ifindex(__u32 ifindex, struct endpoint **record)
{
	__u32 slot = ifindex & (IFINDEX_CACHE_MAX - 1);
	__u32 *cached = bpf_map_lookup_elem(&weir_ifindex_cache, &slot);
	struct endpoint *endpoint;
	__u32 *found, id;

	*record = 0;
	if (cached) {
		id = READ_ONCE(*cached);
		endpoint = endpoint_get(id);
		if (endpoint && endpoint->ifindex == ifindex) {
			*record = endpoint;
			return id;
		}
	}
	found = bpf_map_lookup_elem(&weir_ifindex, &ifindex);
	if (!found)
		return 0;
	id = READ_ONCE(*found);
	if (cached)
		*cached = id;
	*record = endpoint_get(id);
	return id;
}

#define CGROUP_LEVELS_MAX 8

/* The endpoint whose cgroup is nearest above the packet's socket; null, a constant: above the process that calls. */
INLINE __u32 endpoint_by_cgroup(struct __sk_buff *skb)
{
	__u64 cgroup = skb ? bpf_skb_cgroup_id(skb) : bpf_get_current_cgroup_id();
	__u32 *id = bpf_map_lookup_elem(&weir_cgroups, &cgroup);
	__u32 found = 0;
	int level;

	if (id)
		return *id;
	for (level = 1; level < CGROUP_LEVELS_MAX; level++) {
		cgroup = skb ? bpf_skb_ancestor_cgroup_id(skb, level) : bpf_get_current_ancestor_cgroup_id(level);
		if (!cgroup)
			break;
		id = bpf_map_lookup_elem(&weir_cgroups, &cgroup);
		if (id)
			found = *id;
	}
	return found;
}
