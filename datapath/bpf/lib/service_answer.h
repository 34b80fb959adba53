/* What comes back through a service: on every way into the client, from an endpoint here, another node or the stack. */
#pragma once

#include "endpoint.h"
#include "service.h"
#include "translate.h"

#define FILE_ID FILE_SERVICE_ANSWER

/* An answer (FLOW_REPLY_NAT) on its way into the client: the frontend is its source again. 0 or a drop. */
NOINLINE int service_answer(struct __sk_buff *skb, struct flow *f)
{
	struct ct_entry *e;
	struct endpoint *own;
	struct address self = {};
	int code;

	if (!f)
		return DROPPED(DROP_INVALID);
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (!e)
		return DROPPED(DROP_INVALID);
	service_count_packet(f->service, skb->len);
	if (e->flags & CT_LOOPBACK) {
		own = endpoint_get(f->hook_endpoint);
		if (!own)
			return DROPPED(DROP_EP_NOT_READY);
		if (f->flags & FLOW_IPV6)
			self = own->ipv6;
		else
			self.halves[1] = mapped(own->ipv4);
		code = translate(skb, f, TRANSLATE_DESTINATION, &self, f->port_destination);
		if (code)
			return code;
	}
	return translate(skb, f, TRANSLATE_SOURCE, &e->translated, e->translated_port);
}
#undef FILE_ID
