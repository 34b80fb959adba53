/* What a packet was before it was translated for a service: left by who translates, for who brings it on. */
#pragma once

#include "conntrack.h"

/* What a translated packet was before, for the function that brings it into its endpoint. */
struct arrival {
	struct ct_key key; /* under the frontend */
	struct address frontend;
	struct address to; /* of an endpoint's packet: its backend */
	__u32 backend; /* 0: not translated for a service */
	__u16 port; /* be */
	__u16 to_port; /* be */
	__u16 service;
	__u32 frontends_revision; /* from before its frontend was looked at; 0: unknown */
	__u32 source_hi;
	__u32 known; /* it has its CT_SERVICE entry */
	__u32 fresh; /* conntrack does not know the flow to the backend */
	__u32 handle; /* that a new flow gets, with REDIRECT_EGRESS or REDIRECT_INGRESS */
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

INLINE void arrival_fill(struct ct_entry *e, const struct flow *f, const struct arrival *a, const struct config *config)
{
	e->translated = *(f->source_hi ? &f->key.lo : &f->key.hi);
	e->translated_port = f->port_destination;
	e->service = a->service;
	e->backend = a->backend;
	e->revision = a->frontends_revision;
	e->created = f->now;
	e->expires = f->now + config->timeout_tcp * config->hz;
	e->flags = CT_SERVICE | (a->source_hi ? CT_ORIGIN_HI : 0);
}

/* The (client, frontend) entry, which keeps the backend of `f`, the flow to that; `share` has taken it. 1, or 0 when the table is
 * full: the next packet chooses anew, so this one is dropped. */
INLINE int arrival_insert(const struct flow *f, const struct arrival *a, const struct config *config, __u32 share)
{
	struct ct_entry *e = ct_new();

	if (!e)
		return 0;
	arrival_fill(e, f, a, config);
	ct_share_set(e, share);
	if (likely(!bpf_map_update_elem(&weir_ct, &a->key, e, BPF_NOEXIST)))
		return 1;
	e = bpf_map_lookup_elem(&weir_ct, &a->key);
	if (!e) {
		ct_share_add(share, flow_source(f), -1);
		return 0;
	}
	ct_share_move(e, &a->key, share);
	arrival_fill(e, f, a, config);
	return 1;
}
