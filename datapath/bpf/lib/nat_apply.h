/* Makes a packet what its entry of weir_nat says. */
#pragma once

#include "nat.h"
#include "translate.h"

#define FILE_ID FILE_NAT

/* The tuple of the packet, or of the packet that it quotes turned round. */
INLINE void nat_key_of(struct nat_key *key, const struct flow *f)
{
	key->source = *flow_address(f, TRANSLATE_SOURCE);
	key->destination = *flow_address(f, TRANSLATE_DESTINATION);
	key->port_source = f->port_source;
	key->port_destination = f->port_destination;
	key->protocol = f->key.protocol;
	key->pad[0] = 0;
	key->pad[1] = 0;
	key->pad[2] = 0;
}

/* 0 or a drop. Key and ports of `f` follow. */
NOINLINE int nat_apply(struct __sk_buff *skb, struct flow *f, const struct nat_entry *e)
{
	int code;

	if (!f || !e)
		return DROPPED(DROP_NAT_NO_MAPPING);
	if (f->port_destination != e->port_destination ||
	    !same_address(flow_address(f, TRANSLATE_DESTINATION), &e->destination)) {
		code = translate(skb, f, TRANSLATE_DESTINATION, &e->destination, e->port_destination);
		if (code)
			return code;
	}
	if (f->port_source == e->port_source && same_address(flow_address(f, TRANSLATE_SOURCE), &e->source))
		return 0;
	return translate(skb, f, TRANSLATE_SOURCE, &e->source, e->port_source);
}
#undef FILE_ID
