/* What a packet was before it was translated for a service: left by who translates, for who brings it on. */
#pragma once

#include "maps.h"

/* What a translated packet was before, for the function that brings it into its endpoint. */
struct arrival {
	struct ct_key key; /* under the frontend */
	struct address frontend;
	struct address to; /* of an endpoint's packet: its backend */
	__u32 backend; /* 0: not translated for a service */
	__u16 port; /* be */
	__u16 to_port; /* be */
	__u16 service;
	__u32 source_hi;
	__u32 known; /* it has its CT_SERVICE entry */
	__u32 fresh; /* conntrack does not know the flow to the backend */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct arrival);
	__uint(max_entries, 1);
} weir_arrival SEC(".maps");

INLINE struct arrival *arrival_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weir_arrival, &zero);
}

/* The flow's entry, as long as nobody else sees it: answers are to come from the frontend. */
INLINE void arrival_note(struct ct_entry *e, const struct arrival *a)
{
	e->translated = a->frontend;
	e->translated_port = a->port;
	e->service = a->service;
	e->backend = a->backend;
	e->flags |= CT_REPLY_NAT;
}
