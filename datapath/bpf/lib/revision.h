/* What a verdict was given under. A change anywhere in the cluster must not send every established flow of the node through
 * decide(): an entry of conntrack depends on the addresses of its ends, and of these on the far one only (the near one is an
 * endpoint's, whose record has a revision of its own).
 *
 * So an entry remembers the element of weir_revisions that its far address has, and what was in it. A change bumps the
 * elements of all addresses that it may concern: one, those of a block, those of a wide block, or all.
 *
 * Order. Who changes writes the map first and bumps then; who decides reads the revision first and resolves then. So a
 * verdict may be newer than the revision that it is remembered with (then it is given once more), never older. A revision
 * that wraps is wrong for a flow that rests for exactly 2^32 changes. */
#pragma once

#include "config.h"
#include "flow.h"

#define REVISION_WIDE_SHIFT 10
#define REVISION_BLOCK_SHIFT 5

struct revision {
	__u32 revision;
	__u32 element; /* plus one; 0: not to be remembered */
};

INLINE __u32 revision_hash(__u64 part, __u32 bits)
{
	/* Fibonacci hashing (Knuth): 2^64 over the golden ratio */
	return (part * 0x9e3779b97f4a7c15ull) >> (64 - bits);
}

/* Bits of an address' element by which its wide block, its block and itself are told apart. */
INLINE __u32 revision_element(const struct address *a)
{
	__u64 wide, block, own;

	if (!a->halves[0] && a->words[2] == 0xffff0000u) {
		wide = a->bytes[12];
		block = a->words[3] & bpf_htonl(0xffffff00);
		own = a->bytes[15];
	} else {
		wide = a->words[0];
		block = a->halves[0];
		own = a->halves[1];
	}
	return revision_hash(wide + 1, 4) << REVISION_WIDE_SHIFT | revision_hash(block + 1, 5) << REVISION_BLOCK_SHIFT |
	       revision_hash(own + 1, 5);
}

/* Now, for a flow whose far end has this address. */
INLINE struct revision revision_of(const struct address *far)
{
	struct revision seen = { .element = revision_element(far) };
	const __u32 *now = bpf_map_lookup_elem(&weir_revisions, &seen.element);

	seen.revision = now ? READ_ONCE(*now) : 0;
	seen.element++;
	return seen;
}

/* Last: who sees the new revision sees the ends that it is about. */
INLINE void revision_note(struct ct_entry *e, const struct revision *seen)
{
	e->revision_element = seen->element;
	WRITE_ONCE(e->revision, seen->revision);
}

INLINE int revision_holds(const struct ct_entry *e)
{
	__u32 element = (__u32)e->revision_element - 1;
	const __u32 *now = bpf_map_lookup_elem(&weir_revisions, &element);

	/* No element: made before there were any, or not to be remembered. */
	return likely(now) && e->revision == READ_ONCE(*now);
}
