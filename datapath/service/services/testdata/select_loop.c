/* What a packet does to find a backend, over and over, while user space changes them: by the programs' own service.h.
 * Counts what no packet may meet. */
#include "../../../bpf/lib/service.h"

char _license[] SEC("license") = "GPL";

#define SELECTIONS_PER_RUN 32

#define COUNT_CHOSEN 0
#define COUNT_NOBODY 1 /* no frontend, or no backend of one that always has some */
#define COUNT_CLEARED 2 /* a record without an address */
#define COUNT_GONE 3 /* a record that says that nobody is there */
#define COUNT_STRANGER 4 /* a record of another service or protocol */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 8);
} counts SEC(".maps");

INLINE void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counts, &what);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

INLINE void select_once(void)
{
	struct service_client client = { .protocol = 6 };
	struct address address = {};
	__u32 random = bpf_get_prandom_u32();
	struct frontend *frontend;
	struct backend *backend;
	__u32 id;

	/* 10.96.0.1 and 10.96.0.2 */
	address.words[2] = bpf_htonl(0xffff);
	address.words[3] = bpf_htonl(0x0a600001 + (random & 1));
	client.address.words[3] = random;
	client.port = random >> 16;
	frontend = frontend_get(&address, bpf_htons(80), 6);
	id = frontend ? backend_select(frontend, &client) : 0;
	if (!id) {
		count(COUNT_NOBODY);
		return;
	}
	backend = backend_get(id);
	if (!backend || !backend->port || !backend->address.words[3])
		count(COUNT_CLEARED);
	else if (backend->state == BACKEND_GONE)
		count(COUNT_GONE);
	else if (backend->service != frontend->service || backend->protocol != 6)
		count(COUNT_STRANGER);
	else
		count(COUNT_CHOSEN);
}

SEC("tc")
int select_loop(struct __sk_buff *skb)
{
	for (int i = 0; i < SELECTIONS_PER_RUN; i++)
		select_once();
	return 0;
}
