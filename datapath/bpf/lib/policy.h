/* What an endpoint's policy says about a flow. Only the shapes of entries that the policy has are probed, each by one
 * hash lookup: cheaper than a trie for every policy but the most fragmented. */
#pragma once

#include "flow.h"

#define FILE_ID FILE_POLICY

struct match {
	const struct policy_entry *entry;
	__u32 length; /* 0: any protocol, 8: protocol, 9..24: protocol and port prefix */
};

INLINE void policy_probe(void *map, const struct flow *f, __u32 identity, __u32 direction, const __u8 *shapes,
			 __u32 count, struct match *match)
{
	struct policy_key key = { .identity = identity };
	__u32 shape, any;
	int i;

	for (i = 0; i < SHAPES_MAX; i++) {
		if (i >= (int)count)
			break;
		shape = shapes[i];
		any = shape >> 5 & 1;
		/* Without branches: the kernel's verifier follows each of them through each round. An entry for any
		 * protocol has prefix length 0, so its port is masked away. */
		key.shape = shape | direction << 7;
		key.protocol = f->key.protocol & (any - 1);
		key.port = f->policy_port & (0xffff0000u >> (shape & SHAPE_LENGTH));
		match->length = (8 + (shape & SHAPE_LENGTH)) & (any - 1);
		match->entry = bpf_map_lookup_elem(map, &key);
		if (match->entry)
			return;
	}
}

/* `match` has the identity's entry, and some destinations have their own. `hi`: the destination is key.hi. */
INLINE void policy_of_destination(void *map, const struct flow *f, __u32 identity, __u32 hi, struct match *match)
{
	const struct policy_destination *to = bpf_map_lookup_elem(&weir_policy_destinations, hi ? &f->key.hi : &f->key.lo);
	struct policy_key key = { .port = f->policy_port, .protocol = f->key.protocol, .shape = 16 | POLICY_EGRESS << 7 };
	const struct policy_entry *own;

	if (to && to->identity == identity) {
		key.identity = to->number;
		own = bpf_map_lookup_elem(map, &key);
		if (own) {
			match->entry = own;
			return;
		}
	}
	if (match->entry->flags & POLICY_ENTRY_NOBODY)
		match->entry = 0;
	else if (match->entry->stands_for)
		match->length = match->entry->stands_for - 1;
}

/* The lookup of policy-semantics 109-112: the longest match for the identity and for any identity; the higher
 * precedence wins, then a deny of the identity's, then the longer, then the identity's. Notes cookie and match in the flow.
 * `way`: POLICY_*, and POLICY_TARGET_HI when the flow's destination is key.hi. Returns 0 or a drop. */
#define POLICY_TARGET_HI 2
NOINLINE int policy_check(struct flow *f, __u32 slot, __u32 remote, __u32 way)
{
	__u32 direction = way & 1;
	struct policy_slot *header;
	struct match own = {}, any = {};
	const struct policy_direction *d;
	const struct policy_entry *taken;
	__u32 cookie, deny = 0, length;
	__u8 match = MATCH_NONE;
	int code = 0;
	void *map;

	if (!f)
		return DROPPED(DROP_POLICY);
	header = bpf_map_lookup_elem(&weir_policy_slots, &slot);
	if (!slot || !header)
		return 0;
	d = direction == POLICY_EGRESS ? &header->directions[POLICY_EGRESS] : &header->directions[POLICY_INGRESS];
	f->verdicts |= direction == POLICY_EGRESS ? EVENT_EGRESS_VERDICT : EVENT_INGRESS_VERDICT;
	cookie = d->default_cookie;
	map = bpf_map_lookup_elem(&weir_policies, &slot);
	if (!d->enforce) {
		match = MATCH_ALL;
		cookie = 0;
		goto out;
	}
	if (!map) {
		code = DROPPED(DROP_NO_CONFIG);
		goto out;
	}
	policy_probe(map, f, remote, direction, d->identity_shapes, d->identity_shapes_count, &own);
	if (own.entry && unlikely(own.entry->flags & POLICY_ENTRY_ADDRESSES))
		policy_of_destination(map, f, remote, way & POLICY_TARGET_HI, &own);
	policy_probe(map, f, 0, direction, d->any_shapes, d->any_shapes_count, &any);
	if (!own.entry && !any.entry) {
		code = DROPPED(DROP_POLICY);
		goto out;
	}
	taken = own.entry;
	length = own.length;
	if (!own.entry)
		taken = any.entry;
	else if (any.entry && (any.entry->precedence > own.entry->precedence ||
			       (any.entry->precedence == own.entry->precedence &&
				!(own.entry->flags & POLICY_ENTRY_DENY) && any.length > own.length)))
		taken = any.entry;
	if (!taken)
		return DROPPED(DROP_POLICY);
	if (taken == any.entry) {
		length = any.length;
		match = length == 0 ? MATCH_ALL : length == 8 ? MATCH_PROTO_ONLY : MATCH_L4_ONLY;
	} else {
		match = length == 0 ? MATCH_L3_ONLY : length == 8 ? MATCH_L3_PROTO : MATCH_L3_L4;
	}
	cookie = taken->cookie;
	deny = taken->flags & POLICY_ENTRY_DENY;
	if (deny)
		code = DROPPED(DROP_POLICY_DENY);
	else if (taken->flags & POLICY_ENTRY_REDIRECT)
		/* Who asks must see to it: letting the flow by would skip the rule's L7 part. */
		f->redirect |= direction == POLICY_EGRESS ? REDIRECT_EGRESS : REDIRECT_INGRESS;
out:
	if (direction == POLICY_EGRESS) {
		f->egress_cookie = cookie;
		f->egress_match = match;
	} else {
		f->ingress_cookie = cookie;
		f->ingress_match = match;
	}
	return code;
}
#undef FILE_ID
