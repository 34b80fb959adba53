/* What an endpoint's policy says about a flow. Only the shapes of entries that the policy has are probed, each by one
 * hash lookup: cheaper than a trie for every policy but the most fragmented. */
#pragma once

#include "flow.h"

#define FILE_ID FILE_POLICY

struct match {
	const struct policy_entry *entry;
	__u32 length; /* 0: any protocol, 8: protocol, 9..24: protocol and port prefix */
};

/* `view`: SHAPE_EGRESS, SHAPE_AUDIT. */
INLINE void policy_probe(void *map, const struct flow *f, __u32 identity, __u32 view, const __u8 *shapes,
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
		key.shape = shape | view;
		key.protocol = f->key.protocol & (any - 1);
		key.port = f->policy_port & (0xffff0000u >> (shape & SHAPE_LENGTH));
		match->length = (8 + (shape & SHAPE_LENGTH)) & (any - 1);
		match->entry = bpf_map_lookup_elem(map, &key);
		if (match->entry)
			return;
	}
}

/* `match` has the identity's entry, and some destinations have their own. `hi`: the destination is key.hi. */
INLINE void policy_of_destination(void *map, const struct flow *f, __u32 identity, __u32 view, __u32 hi,
				  struct match *match)
{
	const struct policy_destination *to = bpf_map_lookup_elem(&weir_policy_destinations, hi ? &f->key.hi : &f->key.lo);
	struct policy_key key = { .port = f->policy_port, .protocol = f->key.protocol, .shape = 16 | view };
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
 * precedence wins, then a deny of the identity's, then the longer, then the identity's. Answers the entry or 0, and what of it matched.
 * `way`: POLICY_*, and POLICY_TARGET_HI when the flow's destination is key.hi. */
#define POLICY_TARGET_HI 2
INLINE const struct policy_entry *policy_find(void *map, const struct policy_direction *d, const struct flow *f, __u32 remote,
					      __u32 way, __u32 audit, __u8 *matched)
{
	__u32 view = (way & 1) << 7 | audit, length;
	struct match own = {}, any = {};
	const struct policy_entry *taken;

	policy_probe(map, f, remote, view, d->identity_shapes, d->identity_shapes_count, &own);
	if (own.entry && unlikely(own.entry->flags & POLICY_ENTRY_ADDRESSES))
		policy_of_destination(map, f, remote, view, way & POLICY_TARGET_HI, &own);
	policy_probe(map, f, 0, view, d->any_shapes, d->any_shapes_count, &any);
	taken = own.entry;
	if (!own.entry)
		taken = any.entry;
	else if (any.entry && (any.entry->precedence > own.entry->precedence ||
			       (any.entry->precedence == own.entry->precedence &&
				!(own.entry->flags & POLICY_ENTRY_DENY) && any.length > own.length)))
		taken = any.entry;
	if (!taken)
		return 0;
	if (taken == any.entry) {
		length = any.length;
		*matched = length == 0 ? MATCH_ALL : length == 8 ? MATCH_PROTO_ONLY : MATCH_L4_ONLY;
	} else {
		length = own.length;
		*matched = length == 0 ? MATCH_L3_ONLY : length == 8 ? MATCH_L3_PROTO : MATCH_L3_L4;
	}
	return taken;
}

INLINE void policy_note(struct flow *f, __u32 egress, __u32 cookie, __u8 match)
{
	if (egress) {
		f->egress_cookie = cookie;
		f->egress_match = match;
	} else {
		f->ingress_cookie = cookie;
		f->ingress_match = match;
	}
}

/* A flow passes: would policies in audit mode have denied it, if they were enforced beside the others? A deny of theirs comes before every
 * allow of ordinary policies, their default deny before what is behind those. Beside policy_check(), not below it: the stack has no
 * room for both. */
NOINLINE int policy_audit(struct flow *f, __u32 slot, __u32 remote, __u32 way)
{
	const struct policy_direction *d;
	const struct policy_entry *entry;
	__u32 egress = way & 1, passes = POLICY_ENTRY_BEHIND;
	struct policy_slot *header;
	__u8 match = MATCH_NONE;
	void *map;

	if (!f)
		return 0;
	f->redirect &= ~REDIRECT_AUDIT;
	header = bpf_map_lookup_elem(&weir_policy_slots, &slot);
	map = bpf_map_lookup_elem(&weir_policies, &slot);
	if (!header || !map)
		return 0;
	d = egress ? &header->directions[POLICY_EGRESS] : &header->directions[POLICY_INGRESS];
	if (d->enforce) {
		entry = policy_find(map, d, f, remote, way, 0, &match);
		passes = entry ? entry->flags : 0;
	}
	entry = policy_find(map, d, f, remote, way, SHAPE_AUDIT, &match);
	if (!entry || !(entry->flags & POLICY_ENTRY_DENY) || passes & POLICY_ENTRY_BEFORE ||
	    ((entry->flags & POLICY_ENTRY_DEFAULT) && !(passes & POLICY_ENTRY_BEHIND)))
		return 0;
	f->verdicts |= egress ? EVENT_EGRESS_AUDITED : EVENT_INGRESS_AUDITED;
	policy_note(f, egress, entry->cookie, entry->flags & POLICY_ENTRY_DEFAULT ? MATCH_NONE : match);
	return 0;
}

/* What the policy in a slot says of a flow. Notes cookie and match in it. Returns 0 or a drop. */
NOINLINE int policy_check(struct flow *f, __u32 slot, __u32 remote, __u32 way)
{
	__u32 direction = way & 1;
	struct policy_slot *header;
	const struct policy_direction *d;
	const struct policy_entry *taken = 0;
	__u32 cookie;
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
		policy_note(f, direction, cookie, match);
		return DROPPED(DROP_NO_CONFIG);
	}
	taken = policy_find(map, d, f, remote, way, 0, &match);
	if (!taken) {
		code = DROPPED(DROP_POLICY);
		goto out;
	}
	cookie = taken->cookie;
	if (taken->flags & POLICY_ENTRY_DENY)
		code = DROPPED(DROP_POLICY_DENY);
	else if (taken->flags & POLICY_ENTRY_REDIRECT)
		/* Who asks must see to it: letting the flow by would skip the rule's L7 part. */
		f->redirect |= direction == POLICY_EGRESS ? REDIRECT_EGRESS : REDIRECT_INGRESS;
out:
	policy_note(f, direction, cookie, match);
	if (likely(!(d->flags & (POLICY_DIRECTION_AUDITED | POLICY_DIRECTION_AUDIT))))
		return code;
	if (!code) {
		if (d->flags & POLICY_DIRECTION_AUDITED)
			f->redirect |= REDIRECT_AUDIT;
		return 0;
	}
	if (!(d->flags & POLICY_DIRECTION_AUDIT))
		return code;
	f->verdicts |= direction == POLICY_EGRESS ? EVENT_EGRESS_AUDITED : EVENT_INGRESS_AUDITED;
	return 0;
}
#undef FILE_ID
