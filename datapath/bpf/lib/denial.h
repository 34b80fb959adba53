/* What an endpoint was denied a moment ago, and sends again: SYNs are repeated, and floods repeat themselves. Of these, and only of what
 * policy denied, the verdict is remembered, with all that its event says; so denying costs no more than forwarding.
 *
 * Nothing is allowed by it, and a denial that no longer holds is not repeated: it counts while the revisions are those under which
 * it was given, of both endpoints' records (policy, identity) and of the far address (as in conntrack, see revision.h). What has
 * no revision (a service that comes, an address that becomes the host's) is seen after a second at the latest.
 *
 * The memory is the CPU's own and belongs to from_endpoint (see maps.h). */
#pragma once

#include "endpoint.h"
#include "ipcache.h"
#include "revision.h"

#define DENIALS_MAX 128

struct denial {
	struct ct_key key;
	__u32 code; /* 0: none */
	__u32 made; /* jiffies */
	__u32 source_revision;
	__u32 destination_revision;
	struct revision seen;
	__u32 destination_identity;
	__u32 egress_cookie;
	__u32 ingress_cookie;
	__u16 source_endpoint;
	__u16 destination_endpoint;
	__u16 policy_port;
	__u8 source_hi;
	__u8 verdicts;
	__u8 egress_match;
	__u8 ingress_match;
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct denial);
	__uint(max_entries, DENIALS_MAX);
} weir_denials SEC(".maps");

INLINE struct denial *denial_place(const struct flow *f)
{
	__u64 ports = (__u64)f->key.port_lo << 32 | (__u64)f->key.port_hi << 8 | f->key.protocol;
	__u64 h = (f->key.lo.halves[1] ^ f->key.hi.halves[1] ^ ports) * 0x9e3779b97f4a7c15ull;
	__u32 place = h >> 57;

	_Static_assert(DENIALS_MAX == 1 << (64 - 57), "DENIALS_MAX");
	return bpf_map_lookup_elem(&weir_denials, &place);
}

INLINE int denial_fits(const struct denial *d, const struct flow *f)
{
	return d->key.lo.halves[0] == f->key.lo.halves[0] && d->key.lo.halves[1] == f->key.lo.halves[1] &&
	       d->key.hi.halves[0] == f->key.hi.halves[0] && d->key.hi.halves[1] == f->key.hi.halves[1] &&
	       d->key.port_lo == f->key.port_lo && d->key.port_hi == f->key.port_hi &&
	       d->key.protocol == f->key.protocol && d->source_hi == f->source_hi && d->policy_port == f->policy_port;
}

/* See denial_known(): `d` is what the flow's place has. */
NOINLINE int denial_again(struct flow *f, const struct endpoint *own, const struct denial *d, __u32 hz)
{
	const struct endpoint *other;
	const __u32 *now;
	__u32 element;

	NEVER_NULL(f);
	NEVER_NULL(own);
	NEVER_NULL(d);
	if (!denial_fits(d, f) || d->source_endpoint != f->hook_endpoint ||
	    d->source_revision != own->revision || f->now - d->made >= hz || (f->flags & (FLOW_RELATED | FLOW_ERROR)))
		return 0;
	element = d->seen.element - 1;
	now = bpf_map_lookup_elem(&weir_revisions, &element);
	if (!now || READ_ONCE(*now) != d->seen.revision)
		return 0;
	if (d->destination_endpoint) {
		other = endpoint_get(d->destination_endpoint);
		if (!other || other->revision != d->destination_revision)
			return 0;
	}
	f->destination_identity = d->destination_identity;
	f->destination_endpoint = d->destination_endpoint;
	f->egress_cookie = d->egress_cookie;
	f->ingress_cookie = d->ingress_cookie;
	f->egress_match = d->egress_match;
	f->ingress_match = d->ingress_match;
	f->verdicts = d->verdicts;
	return d->code;
}

/* Of a packet whose flow conntrack does not know. The drop again, or 0; the flow has what an event says then. A flow that is not
 * meant sees so from few words, without a call. */
INLINE int denial_known(struct flow *f, const struct endpoint *own, __u32 hz)
{
	const struct denial *d = denial_place(f);

	if (!d || !d->code || d->key.port_lo != f->key.port_lo || d->key.port_hi != f->key.port_hi ||
	    d->key.lo.halves[1] != f->key.lo.halves[1])
		return 0;
	return denial_again(f, own, d, hz);
}

/* Policy has denied a flow that nothing was known of. */
NOINLINE int denial_keep(const struct flow *f, const struct peer *source, const struct peer *destination,
			 const struct revision *seen, __u32 code)
{
	struct denial *d;

	if (!f || !source || !destination || !seen || !seen->element)
		return 0;
	if ((DROP_REASON(code) != DROP_POLICY && DROP_REASON(code) != DROP_POLICY_DENY) ||
	    (f->flags & (FLOW_INGRESS | FLOW_L3 | FLOW_RELATED | FLOW_ERROR | FLOW_SERVICE | FLOW_LOOPBACK)) ||
	    f->hook_endpoint != source->endpoint)
		return 0;
	d = denial_place(f);
	if (!d)
		return 0;
	d->key = f->key;
	d->code = code;
	d->made = f->now;
	d->source_revision = source->revision;
	d->destination_revision = destination->revision;
	d->seen = *seen;
	d->destination_identity = f->destination_identity;
	d->egress_cookie = f->egress_cookie;
	d->ingress_cookie = f->ingress_cookie;
	d->source_endpoint = f->hook_endpoint;
	d->destination_endpoint = destination->endpoint;
	d->policy_port = f->policy_port;
	d->source_hi = f->source_hi;
	d->verdicts = f->verdicts;
	d->egress_match = f->egress_match;
	d->ingress_match = f->ingress_match;
	return 0;
}
