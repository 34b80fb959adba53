/* Only a datagram's first fragment has ports: it leaves them in weir_frag for the others. */
#pragma once

#include "l4.h"
#include "metrics.h"

#define FILE_ID FILE_FRAGMENT

#define METRIC_FRAGMENTED 9
#define METRIC_FRAGMENT_UPDATE 10

/* Bytes behind the place where the upper layer begins that policy reads of it. */
INLINE __u32 fragment_header_bytes(__u8 protocol)
{
	return protocol == PROTOCOL_TCP ? 20 : protocol == PROTOCOL_SCTP ? 12 : 8;
}

/* `position`: of the fragment in what is fragmented, in bytes. One that begins inside the headers would put others in place of
 * those that policy has read (RFC 1858, RFC 3128, RFC 5722). */
INLINE int fragment_find(struct flow *f, const struct frag_key *key, __u32 position)
{
	struct frag_ports *ports = bpf_map_lookup_elem(&weir_frag, key);

	/* Left by programs that did not note the protocol yet. */
	if (!ports || !ports->protocol)
		return DROPPED(DROP_FRAG_NOT_FOUND);
	if (position / 8 < ports->header)
		return DROPPED(DROP_INVALID);
	f->protocol = ports->protocol;
	f->port_source = ports->port_source;
	f->port_destination = ports->port_destination;
	f->policy_port = ports->policy_port;
	f->flags |= FLOW_FRAGMENT;
	return 0;
}

/* `header`: bytes of what is fragmented before the upper layer. 0 or a drop. */
INLINE int fragment_remember(struct flow *f, const struct frag_key *key, __u32 header)
{
	struct frag_ports ports = {
		.port_source = f->port_source,
		.port_destination = f->port_destination,
		.policy_port = f->policy_port,
		.protocol = f->protocol,
	};

	header = (header + fragment_header_bytes(f->protocol) + 7) / 8;
	if (header > 255)
		return DROPPED(DROP_INVALID_EXTHDR);
	ports.header = header;
	/* Without it the later fragments are dropped (175); the first one is complete in itself. */
	if (bpf_map_update_elem(&weir_frag, key, &ports, BPF_ANY))
		count(f, METRIC_FRAGMENT_UPDATE, DIRECTION_EGRESS, 0);
	return 0;
}
#undef FILE_ID
