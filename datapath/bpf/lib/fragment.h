/* Only a datagram's first fragment has ports: it leaves them in weir_frag for the others. */
#pragma once

#include "l4.h"
#include "metrics.h"

#define FILE_ID FILE_FRAGMENT

#define METRIC_FRAGMENTED 9
#define METRIC_FRAGMENT_UPDATE 10

INLINE int fragment_find(struct flow *f, const struct frag_key *key)
{
	struct frag_ports *ports = bpf_map_lookup_elem(&weir_frag, key);

	if (!ports)
		return DROPPED(DROP_FRAG_NOT_FOUND);
	f->port_source = ports->port_source;
	f->port_destination = ports->port_destination;
	f->policy_port = ports->policy_port;
	f->flags |= FLOW_FRAGMENT;
	return 0;
}

INLINE void fragment_remember(struct flow *f, const struct frag_key *key)
{
	struct frag_ports ports = {
		.port_source = f->port_source,
		.port_destination = f->port_destination,
		.policy_port = f->policy_port,
	};

	/* Without it the later fragments are dropped (175); the first one is complete in itself. */
	if (bpf_map_update_elem(&weir_frag, key, &ports, BPF_ANY))
		count(f, METRIC_FRAGMENT_UPDATE, DIRECTION_EGRESS, 0);
}
#undef FILE_ID
